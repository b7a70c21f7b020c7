-- What the rounds work on.
create table parent (id int primary key, v int);
create table child (id int references parent, v text);
create table kept (id int);
insert into parent select i, 0 from generate_series(1, 500) i;
create table big (id int, v text, f float8);
create index big_id on big (id);
create index big_v on big using hash (v);
\copy (select i, md5(i::text), i / 7.0 from generate_series(1, 200000) i) to 'big.txt'
create table words (w text[], p point, r int4range);
create index words_w on words using gin (w);
create index words_p on words using gist (p);
create index words_k on words using spgist (p);
create index words_r on words using gist (r);
create index words_b on words using brin (r range_inclusion_ops);
create sequence counter;
create unlogged table fleeting (id int primary key);
create database bench_small;
\c bench_small
create table small (id int, v text);
insert into small select i, 'small' from generate_series(1, 1000) i;
vacuum (freeze) small;
