-- Records of B-trees.
create table keys (k int, filler text);
create index keys_k on keys (k);
-- Ascending, descending and random order, one record at a time.
insert into keys select i from generate_series(1, 20000) i;
create index keys_text on keys ((repeat('k', 200) || k));
insert into keys select -i from generate_series(1, 6000) i;
insert into keys select (i * 7919) % 50000 from generate_series(1, 20000) i;
-- Many equal keys: posting lists, their splits, deduplication.
create table equal (k int);
create index equal_k on equal (k);
insert into equal select i % 10 from generate_series(1, 30000) i;
delete from equal where ctid::text like '%5)';
vacuum equal;
insert into equal select i % 10 from generate_series(1, 10000) i;
-- Version churn: deletion from the bottom up.
create table versions (id int primary key, k int, v int);
create index versions_k on versions (k);
create index versions_v on versions (v);
insert into versions select i, i % 20, i from generate_series(1, 2000) i;
do $$ begin for i in 1..25 loop update versions set k = (k + 1) % 20; commit; end loop; end $$;
-- Deletion of pages, from the leaves and with their parents.
delete from keys where k between 2000 and 15000;
vacuum keys;
delete from keys where k > -5000 and k < 45000;
vacuum keys;
vacuum keys;
insert into keys select i from generate_series(1, 30000) i;
-- A tree that shrinks to nothing and grows again: a new fast root.
create table shrink (k text);
alter table shrink alter k set storage plain;
create index shrink_k on shrink (k);
insert into shrink select repeat('s', 1000) || lpad(i::text, 10, '0') from generate_series(1, 4000) i;
delete from shrink where k < repeat('s', 1000) || '0000003900';
vacuum shrink;
vacuum shrink;
delete from shrink;
vacuum shrink;
vacuum shrink;
insert into shrink select repeat('s', 1000) || lpad(i::text, 10, '0') from generate_series(1, 2000) i;
-- An index on an empty table: its first root, by insertion.
create table late (k int primary key);
insert into late select i from generate_series(1, 2000) i;
checkpoint;
