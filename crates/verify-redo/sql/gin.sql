-- Records of inverted indexes.
create table g (id int, a int[]) with (autovacuum_enabled = off);
create index g_a on g using gin (a) with (fastupdate = off);
-- Posting lists in entries, posting trees, their leaves' splits.
insert into g select i, array[1, i % 50, i] from generate_series(1, 30000) i;
insert into g select i, array[2] from generate_series(1, 3000) i;
-- Pointers that fall between others.
delete from g where id % 3 = 0;
vacuum g;
insert into g select i, array[1, 3, i % 50] from generate_series(1, 8000) i;
-- Leaves of a posting tree that become empty.
delete from g where id between 4000 and 26000;
vacuum g;
vacuum g;
delete from g;
vacuum g;
-- The pending list.
create table gp (id int, a int[]) with (autovacuum_enabled = off);
create index gp_a on gp using gin (a) with (fastupdate = on, gin_pending_list_limit = 64);
insert into gp select i, array[i % 7, i % 11, i] from generate_series(1, 3000) i;
do $$ begin for i in 1..200 loop insert into gp values (i, array[i, i + 1, i + 2]); end loop; end $$;
insert into gp select i, array(select generate_series(i, i + 400)) from generate_series(1, 40) i;
vacuum gp;
-- Wide keys: a deep tree of entries, whose inner pages split.
create table gt (a text[]);
create index gt_a on gt using gin (a) with (fastupdate = off);
insert into gt select array[(select string_agg(md5((i * 100 + j)::text), '') from generate_series(1, 60) j)] from generate_series(1, 400) i;
-- A tree that begins as an index over rows that are there.
create index g_late on gp using gin (a);
create table gw (id int, a int[]) with (autovacuum_enabled = off);
create index gw_a on gw using gin (a) with (fastupdate = off);
insert into gw select i, array[1] from generate_series(1, 100000) i;
delete from gw where id > 1000 and id < 90000;
vacuum gw;
vacuum gw;
-- Many pages of entries that lose pointers, and then rest.
create table gv (id int, a int[]) with (autovacuum_enabled = off);
create index gv_a on gv using gin (a) with (fastupdate = off);
insert into gv select i, array[i, i + 1, i + 2] from generate_series(1, 20000) i;
delete from gv where id % 3 = 0;
vacuum gv;
checkpoint;
