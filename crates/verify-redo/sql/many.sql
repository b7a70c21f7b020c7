-- More transactions than a file of commit status holds, so that files are given up.
do $$ begin for i in 1..1150000 loop perform txid_current(); commit; end loop; end $$;
-- A second bitmap page: more overflow pages in a hash index than the first one has bits. Without images of most of the
-- blocks, which would be a hundred gigabytes.
set wal_consistency_checking = '';
create table overflowing (k int) with (autovacuum_enabled = off);
create index overflowing_k on overflowing using hash (k);
insert into overflowing select 1 from generate_series(1, 13500000);
reset wal_consistency_checking;
insert into overflowing select 1 from generate_series(1, 20000);
drop table overflowing;
