-- More transactions than a file of commit status holds, so that files are given up.
do $$ begin for i in 1..1150000 loop perform txid_current(); commit; end loop; end $$;
