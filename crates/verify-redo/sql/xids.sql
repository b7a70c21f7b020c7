-- Pages of commit status, commit times and multixacts begin, and are given up.
create table x (id int primary key, v int);
insert into x select i, 0 from generate_series(1, 100) i;
do $$ begin for i in 1..60000 loop perform txid_current(); commit; end loop; end $$;
-- Multixacts: a key share by the transaction, an update by its subtransaction.
do $$ begin
  for i in 1..2500 loop
    perform from x where id = i % 100 + 1 for key share;
    begin update x set v = v + 1 where id = i % 100 + 1; exception when others then raise; end;
    commit;
  end loop;
end $$;
-- More subtransactions than a standby is told of at commit.
do $$ begin
  for i in 1..200 loop
    begin insert into x values (1000 + i, 0); exception when others then raise; end;
  end loop;
end $$;
update pg_database set datallowconn = true where datname = 'template0';
