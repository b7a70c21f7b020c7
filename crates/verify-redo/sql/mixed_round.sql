-- Large COPYs, into files of their own and beside what is there.
begin;
truncate big;
\copy big from 'big.txt'
commit;
\copy big from 'big.txt'
delete from big where id % 3 = :round % 3;
vacuum big;
-- Multixacts: locks by a transaction and its subtransactions.
begin;
select from parent where id % 7 = :round % 7 for key share;
savepoint a;
update parent set v = v + 1 where id % 7 = :round % 7;
savepoint b;
insert into child select id, 'round' from parent where id % 7 = :round % 7;
rollback to b;
insert into child select id, 'again' from parent where id % 5 = :round % 5;
commit;
-- More subtransactions than the server keeps in memory.
do $$ begin
  for i in 1..100 loop
    begin update parent set v = v - 1 where id = i; exception when others then raise; end;
  end loop;
end $$;
-- Prepared transactions, one of which outlasts its round.
\set gid round_ :round
begin;
insert into child values (1, 'prepared');
savepoint c;
update parent set v = -:round where id = 499;
savepoint d;
insert into child values (2, 'sub');
rollback to d;
prepare transaction :'gid';
select format('%s prepared %L', case when :round % 3 = 0 then 'rollback' else 'commit' end, :'gid') \gexec
\set gid lasting_ :round
begin;
insert into kept values (:round);
savepoint e;
create table lasting_:round (id int primary key);
prepare transaction :'gid';
\set gid lasting_ :last
select format('commit prepared %L', gid) from pg_prepared_xacts where gid = :'gid' \gexec
-- Databases by both strategies, and a tablespace in the data directory.
create database by_log_:round template template1 strategy wal_log;
create database by_files_:round template bench_small strategy file_copy;
create tablespace place_:round location '';
create table placed_:round (id int primary key, v text) tablespace place_:round;
insert into placed_:round select i, 'placed' from generate_series(1, 1000) i;
\c by_files_:round
insert into small select i, 'copied' from generate_series(1, 300) i;
create table own (id int primary key);
\c bench
drop database if exists by_log_:last;
drop database if exists by_files_:last;
select format('alter table placed_%s set tablespace pg_default', :last) where :last > 0 \gexec
select format('drop tablespace place_%s', :last) where :last > 0 \gexec
drop table if exists placed_:last;
-- Indexes of every kind.
insert into words select array[md5(i::text), (i % 50)::text], point(random() * 100, i % 100), int4range(i, i + 100) from generate_series(1, 2000) i;
delete from words where p[1] < :round % 40;
vacuum words;
select nextval('counter') from generate_series(1, 50);
insert into fleeting select i from generate_series(:round * 1000, :round * 1000 + 100) i;
select pg_logical_emit_message(true, 'verify', repeat('m', 20000));
vacuum pgbench_branches, pgbench_tellers;
vacuum (freeze, analyze) pgbench_accounts;
truncate child;
select format('vacuum (full) %s', case when :round % 2 = 0 then 'parent' else 'pg_class' end) \gexec
