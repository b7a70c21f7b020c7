-- Records of heaps.
create table plain (id int primary key, v text, filler text);
insert into plain select i, 'v' || i, repeat('x', 100) from generate_series(1, 5000) i;
update plain set v = v || '!' where id % 3 = 0;
update plain set id = id + 100000 where id % 7 = 0;
delete from plain where id % 5 = 0;
vacuum plain;
vacuum (freeze) plain;
-- Clear bits of the visibility map by every kind of record.
insert into plain values (200001, 'a', 'b');
vacuum plain;
update plain set v = 'long' || repeat('y', 500) where id = 1;
vacuum (freeze) plain;
select from plain where id = 2 for update;
begin; select from plain where id = 3 for key share; commit;
vacuum plain;
delete from plain where id between 10 and 40;
vacuum (truncate on) plain;

-- COPY that freezes, many tuples to a record, into pages of its own.
create table copied (id int, v text);
\copy (select i, repeat('c', i % 50) from generate_series(1, 20000) i) to 'copied.txt'
begin;
truncate copied;
\copy copied from 'copied.txt' (freeze)
commit;
\copy copied from 'copied.txt'
delete from copied where id % 2 = 0;
vacuum copied;
\copy copied from 'copied.txt'

-- Speculative insertions, kept and given up.
create table speculative (id int primary key, v int);
insert into speculative select i % 100, i from generate_series(1, 99) i on conflict (id) do update set v = excluded.v;
insert into speculative select i % 100, i from generate_series(1, 500) i on conflict do nothing;

-- Rows that move between partitions.
create table parted (k int, v text) partition by list (k);
create table parted_1 partition of parted for values in (1);
create table parted_2 partition of parted for values in (2);
insert into parted select 1, 'p' || i from generate_series(1, 300) i;
update parted set k = 2 where v like '%7';

-- An update that fills a page of its own, and one that moves to another page.
create table wide (id int, v text) with (fillfactor = 100);
alter table wide alter v set storage plain;
insert into wide select i, repeat('w', 5000) from generate_series(1, 10) i;
update wide set v = repeat('z', 6000);
update wide set v = repeat('u', 7000) where id < 4;
create table narrow (id int, v text);
insert into narrow select i, repeat('n', 30) from generate_series(1, 1000) i;
update narrow set v = repeat('m', 90) where id < 500;

-- Dead line pointers, pruning and their removal.
create table churn (id int primary key, v int) with (fillfactor = 50);
insert into churn select i, 0 from generate_series(1, 1000) i;
do $$ begin for i in 1..30 loop update churn set v = v + 1 where id < 100; commit; end loop; end $$;
delete from churn where id > 500;
vacuum churn;
vacuum (index_cleanup on, freeze) churn;
-- Multixacts: two sessions' worth by savepoints and key shares.
create table parent (id int primary key, v int);
create table child (id int references parent);
insert into parent select i, 0 from generate_series(1, 200) i;
insert into child select i from generate_series(1, 200) i;
begin;
select from parent where id < 50 for key share;
savepoint a;
update parent set v = 1 where id < 50;
rollback to a;
select from parent where id < 50 for no key update;
commit;
begin;
select from parent for key share;
savepoint b;
update parent set v = v + 1;
savepoint c;
delete from child;
rollback to c;
commit;
-- Locks along an update chain.
begin;
update parent set v = v + 1 where id < 20;
savepoint d;
select from parent where id < 20 for key share;
commit;
-- A lock on a row that another transaction is updating: it goes along the chain of versions.
create extension dblink;
begin;
update parent set v = v + 1 where id = 100;
select from dblink('host=' || split_part(current_setting('unix_socket_directories'), ',', 1) || ' dbname=heap', 'select 1 from parent where id = 100 for key share') as locked (one int);
commit;
begin;
update parent set v = v + 1 where id = 101;
select from dblink('host=' || split_part(current_setting('unix_socket_directories'), ',', 1) || ' dbname=heap', 'select 1 from parent where id = 101 for key share') as locked (one int);
commit;
begin;
update parent set v = v + 1 where id = 102;
select from dblink('host=' || split_part(current_setting('unix_socket_directories'), ',', 1) || ' dbname=heap', 'select 1 from parent where id = 102 for key share') as locked (one int);
commit;
vacuum (freeze) parent;
-- A catalog that is rewritten while a slot decodes.
select from pg_create_logical_replication_slot('decoding', 'test_decoding');
create table catalogued (id int, a int);
alter table catalogued add b int;
comment on table catalogued is 'one';
comment on table catalogued is 'two';
alter table catalogued rename a to c;
vacuum full pg_attribute;
vacuum full pg_class;
vacuum full pg_description;
select pg_drop_replication_slot('decoding');
select pg_logical_emit_message(true, 'verify', 'a message');
select pg_replication_origin_create('elsewhere');
select pg_replication_origin_advance('elsewhere', '0/1234');
select pg_replication_origin_session_setup('elsewhere');
begin; select pg_replication_origin_xact_setup('0/5678', now()); insert into narrow values (-5, 'from elsewhere'); commit;
select pg_replication_origin_session_reset();
select pg_replication_origin_drop('elsewhere');
select pg_create_restore_point('here');
select from pg_switch_wal();
select pg_backup_start('backup', true);
select from pg_backup_stop();

-- In-place updates of catalogs, sequences, truncation, rewriting, tablespaces.
create sequence counter;
select nextval('counter') from generate_series(1, 100);
select setval('counter', 5000);
alter sequence counter restart;
analyze plain;
truncate copied;
vacuum full plain;
cluster plain using plain_pkey;
create tablespace place location '';
alter table churn set tablespace place;
create database copy_by_files template heap strategy file_copy;
create database copy_by_log template template1 strategy wal_log;
\c copy_by_files
insert into plain select i + 1000000, 'copied', 'x' from generate_series(1, 500) i;
vacuum plain;
\c heap
drop database copy_by_files;
alter table churn set tablespace pg_default;
drop tablespace place;
drop table copied;

-- Two-phase, aborted and nested transactions.
begin; insert into narrow values (-1, 'prepared'); savepoint s; insert into narrow values (-2, 'sub'); prepare transaction 'one';
begin; insert into narrow values (-3, 'prepared'); prepare transaction 'two';
commit prepared 'one';
rollback prepared 'two';
begin; insert into narrow values (-4, 'lost'); rollback;
checkpoint;
