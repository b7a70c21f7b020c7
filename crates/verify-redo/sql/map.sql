-- Bits of the visibility map, cleared by every kind of record that can.
create table mapped (id int, v text) with (autovacuum_enabled = off, fillfactor = 50);
create index mapped_v on mapped (v);
alter table mapped alter v set storage plain;
insert into mapped select i, lpad(i::text, 200, 'm') from generate_series(1, 2000) i;
vacuum (freeze) mapped;
-- Within a page, with and without an index that changes; a lock; deletion; insertion.
update mapped set id = -1 where id = 1;
update mapped set v = 'short' where id = 60;
select from mapped where id = 120 for update;
delete from mapped where id = 180;
vacuum (freeze) mapped;
insert into mapped values (0, 'x');
vacuum (freeze) mapped;
-- From page to page: into one that is all visible, out of one, and both.
update mapped set v = lpad(id::text, 2300, 'l') where id in (240, 241, 300, 301, 302);
vacuum (freeze) mapped;
update mapped set v = lpad(id::text, 2400, 'n') where id in (241, 301, 360, 361, 420, 480);
vacuum (freeze) mapped;
-- Pages that are all visible and empty, then filled again: by one row, by many, by an update.
create table hollow (id int, v text) with (autovacuum_enabled = off);
alter table hollow alter v set storage plain;
insert into hollow select i, repeat('h', 1900) from generate_series(1, 100) i;
delete from hollow where id between 5 and 60;
vacuum (freeze) hollow;
insert into hollow values (200, 'one');
vacuum (freeze) hollow;
\copy (select i, repeat('c', 1900) from generate_series(301, 312) i) to 'hollow.txt'
\copy hollow from 'hollow.txt'
vacuum (freeze) hollow;
update hollow set v = repeat('u', 7000) where id in (80, 81, 82);
vacuum (freeze) hollow;
update hollow set v = repeat('w', 7500) where id in (80, 84, 88, 92, 96);
vacuum (freeze) hollow;
update hollow set v = repeat('z', 7000) where id > 60;
checkpoint;
