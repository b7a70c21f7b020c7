-- Records of SP-GiST.
create table q (id int, p point) with (autovacuum_enabled = off);
create index q_quad on q using spgist (p);
create index q_kd on q using spgist (p kd_point_ops);
insert into q select i, point(i % 211, i / 211) from generate_series(1, 10000) i;
insert into q select i, point(5, 5) from generate_series(1, 1000) i;
insert into q select i, null from generate_series(1, 1000) i;
create table x (t text) with (autovacuum_enabled = off);
create index x_t on x using spgist (t);
insert into x select md5(i::text) from generate_series(1, 8000) i;
insert into x select repeat(chr(33 + i % 90), i % 40) || i from generate_series(1, 8000) i;
insert into x select repeat('common prefix of some length ', 10) || md5(i::text) from generate_series(1, 3000) i;
insert into x select chr(1 + (i * 31) % 126) || chr(1 + i % 126) || chr(1 + (i / 126) % 126) || repeat(md5(i::text), 3) from generate_series(1, 20000) i;
insert into x select repeat('common', 1 + i % 30) || chr(200 + i % 50) || i from generate_series(1, 3000) i;
-- Prefixes that turn out to be shorter, on pages that are full.
insert into x select repeat('prefix ' || k || ' ', 40) || md5(i::text) || md5(k::text) from generate_series(1, 60) k, generate_series(1, 150) i;
insert into x select left(repeat('prefix ' || k || ' ', 40), 20 + l * 25) || md5(l::text) from generate_series(1, 60) k, generate_series(1, 8) l;
delete from q where id % 3 = 0;
delete from x where t < '8';
vacuum q;
vacuum x;
select txid_current();
vacuum x;
insert into x select md5(i::text) || 'again' from generate_series(1, 5000) i;
delete from x where t > 'a';
vacuum x;
vacuum q;
-- A root that is a leaf.
create table r (p point) with (autovacuum_enabled = off);
create index r_p on r using spgist (p);
insert into r select point(i, i) from generate_series(1, 40) i;
insert into r select null from generate_series(1, 40) i;
delete from r where p[0] < 20 or p is null;
vacuum r;
-- Built over rows that are there.
create table b (i inet);
insert into b select ('10.' || (i / 256) % 256 || '.' || i % 256 || '.1')::inet from generate_series(1, 5000) i;
create index b_i on b using spgist (i);
insert into b select ('11.' || (i / 256) % 256 || '.' || i % 256 || '.1')::inet from generate_series(1, 5000) i;
checkpoint;
