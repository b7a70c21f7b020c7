-- Transactions and multixacts past the end of their range, or of a page.
do $$ begin for i in 1..70000 loop perform txid_current(); commit; end loop; end $$;
begin; insert into x values (0, 0); savepoint a; insert into x values (-1, 0); rollback to a; commit;
-- A key share by the transaction, an update by its subtransaction: two members each.
do $$ begin
  for i in 1..2500 loop
    perform from x where id = i % 100 + 1 for key share;
    begin update x set v = v + 1 where id = i % 100 + 1; exception when others then raise; end;
    commit;
  end loop;
end $$;
delete from x where id < 1;
checkpoint;
