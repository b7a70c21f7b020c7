-- Records of BRIN, and generic ones.
create table w (id int, t text) with (autovacuum_enabled = off, fillfactor = 10);
create index w_id on w using brin (id) with (pages_per_range = 1);
create index w_t on w using brin (t) with (pages_per_range = 1);
insert into w select i, 'x' from generate_series(1, 3000) i;
select brin_summarize_new_values('w_id'), brin_summarize_new_values('w_t');
-- Summaries that widen: in place, and onto other pages.
alter table w alter t set storage plain;
update w set id = id + 1000000 where id % 100 = 0;
update w set t = repeat('long', 300) || id where id % 40 = 0;
update w set t = repeat('longer', 300) || id where id % 60 = 1;
-- More ranges than fit a page of the map, which takes the place of summaries.
insert into w select i, repeat('y', 400) from generate_series(1, 12000) i;
select brin_summarize_new_values('w_id'), brin_summarize_new_values('w_t');
insert into w select i, repeat('z', 600) from generate_series(1, 3000) i;
vacuum w;
select brin_desummarize_range('w_id', 3), brin_desummarize_range('w_t', 5);
select brin_summarize_range('w_t', 5);
create table wa (id int) with (autovacuum_enabled = off);
create index wa_id on wa using brin (id) with (autosummarize = on);
insert into wa select i from generate_series(1, 50000) i;
vacuum wa;
create extension bloom;
create table bl (a int, b int);
create index bl_ab on bl using bloom (a, b);
insert into bl select i, i % 100 from generate_series(1, 5000) i;
delete from bl where a % 2 = 0;
vacuum bl;
checkpoint;
