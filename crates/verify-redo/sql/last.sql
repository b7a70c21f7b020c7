create table x (id int primary key, v int);
insert into x select i, 0 from generate_series(1, 100) i;
-- What is prepared stays.
begin; insert into x values (5001, 0); savepoint a; insert into x values (5002, 0); prepare transaction 'stays';
begin; update x set v = v + 1 where id = 1; prepare transaction 'stays too';
select pg_replication_origin_create('lasting');
select pg_replication_origin_advance('lasting', '0/ABCD');
