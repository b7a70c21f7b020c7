-- Records of GiST.
create table s (id int, p point) with (autovacuum_enabled = off);
create index s_p on s using gist (p);
insert into s select i, point(i % 173, i / 173) from generate_series(1, 40000) i;
update s set p = point(p[0] + 1000, p[1]) where id % 10 = 0;
-- Leaves that become empty are deleted, and used again.
delete from s where id > 200;
vacuum s;
select txid_current();
select txid_current();
vacuum s;
insert into s select i, point(i % 173 + 5000, i / 173) from generate_series(1, 20000) i;
-- Items that an index scan found dead, removed by the next insertion into their full page.
create table sd (id int, p point) with (autovacuum_enabled = off);
create index sd_p on sd using gist (p);
insert into sd select i, point(i % 40, i / 40) from generate_series(1, 1600) i;
delete from sd where id % 20 <> 0;
set enable_seqscan = off; set enable_bitmapscan = off;
-- Only leaves that the scan leaves for another one are marked; the root is not.
select count(id) from sd where p <@ box(point(0, 0), point(1000, 1000));
select count(id) from sd where p <@ box(point(0, 0), point(1000, 1000));
insert into sd select i, point(i % 40, i / 40) from generate_series(1, 1600) i;
-- Built over rows that are there, sorted and buffered.
create table sb (b box);
insert into sb select box(point(i, i % 100), point(i + 1, i % 100 + 1)) from generate_series(1, 3000) i;
create index sb_b on sb using gist (b);
create index sb_b2 on sb using gist (b) with (buffering = on);
create table st (v tsvector);
create index st_v on st using gist (v);
insert into st select to_tsvector('simple', md5(i::text) || ' ' || md5((i % 100)::text)) from generate_series(1, 3000) i;
-- Few keys to a page: inner pages split often.
create table sw (v tsvector);
create index sw_v on sw using gist (v tsvector_ops (siglen = 1000));
insert into sw select array_to_tsvector(array(select md5((i * 1000 + j)::text) from generate_series(1, 100) j)) from generate_series(1, 1500) i;
-- An unlogged index build's stand-in positions (wal_level minimal aside) come from a temporary relation.
create temp table tt (p point);
create index on tt using gist (p);
insert into tt select point(i, i) from generate_series(1, 1000) i;
checkpoint;
