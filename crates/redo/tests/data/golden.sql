-- What a server runs whose log and blocks `postgres_17.rs` holds: few records, of every form that changed from 15 to 17.
-- Relations are told from catalogs by their numbers.
create table many (id int, v text) with (autovacuum_enabled = off);
alter table many alter v set storage plain;
create index on many (id);
insert into many select i, 'v' || i from generate_series(1, 30) i;
-- Redirections, dead and unused items, frozen tuples; then the removal of what is dead.
update many set v = 'hot' where id < 10;
delete from many where id between 12 and 15;
vacuum (freeze) many;
-- Pages of the visibility map that are named: within a page, from page to page, by a lock, by many rows.
update many set v = 'hot' where id = 20;
vacuum (freeze) many;
update many set id = 100 where id = 20;
vacuum (freeze) many;
select from many where id = 21 for update;
vacuum (freeze) many;
insert into many select i, repeat('w', 3000) from generate_series(31, 32) i;
vacuum (freeze) many;
update many set v = repeat('u', 2200) where id = 22;
vacuum (freeze) many;
update many set v = repeat('u', 2200) where id = 23;
vacuum (freeze) many;
delete from many where id = 32;
vacuum (freeze) many;
copy many from stdin;
40	copied
41	copied
\.
-- Pruning when the page is read.
create table few (id int, v text) with (autovacuum_enabled = off, fillfactor = 10);
insert into few values (1, repeat('f', 400)), (2, repeat('g', 400));
update few set v = v || '!';
update few set v = v || '?';
delete from few where id = 2;
select count(*) from few;
begin; insert into many values (50, 'prepared'); prepare transaction 'golden';
checkpoint;
