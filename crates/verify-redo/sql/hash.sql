-- Records of hash indexes.
create table h (k int, v text);
create index h_k on h using hash (k);
-- Growth: splits of buckets, overflow pages.
insert into h select i, 'x' from generate_series(1, 12000) i;
insert into h select 7, 'y' from generate_series(1, 6000) i;
insert into h select 8, 'y' from generate_series(1, 6000) i;
-- Holes in the overflow chains, then their removal: pages are squeezed, and emptied page by page.
delete from h where ctid::text like '%1)' or ctid::text like '%2)' or ctid::text like '%3)' or ctid::text like '%4)';
vacuum h;
delete from h where k = 7 and ctid::text like '%5)';
vacuum h;
insert into h select 7, 'z' from generate_series(1, 4000) i;
delete from h where k = 8 or (k = 7 and random() < 0.7);
vacuum h;
-- Items that an index scan found dead, removed by the next insertion into their full page.
create table hd (k int, v int) with (autovacuum_enabled = off);
create index hd_k on hd using hash (k);
insert into hd select 5, i from generate_series(1, 400) i;
set enable_seqscan = off; set enable_bitmapscan = off;
delete from hd where v < 300;
select count(*) from hd where k = 5;
select count(*) from hd where k = 5;
insert into hd select 5, i from generate_series(1000, 1200) i;
-- Again, in buckets of their own.
insert into hd select k, 2000 + i from generate_series(101, 103) k, generate_series(1, 400) i;
delete from hd where k between 101 and 103 and v < 2300;
select (select count(*) from hd where k = 101), (select count(*) from hd where k = 102), (select count(*) from hd where k = 103);
select (select count(*) from hd where k = 101), (select count(*) from hd where k = 102), (select count(*) from hd where k = 103);
insert into hd select k, 4000 + i from generate_series(101, 103) k, generate_series(1, 200) i;
-- An index over rows that are there: it begins with many buckets.
create table hb (k int);
insert into hb select i from generate_series(1, 5000) i;
create index hb_k on hb using hash (k);
create unlogged table hu (k int);
create index hu_k on hu using hash (k);
vacuum hb;
checkpoint;
