-- TimescaleDB where it is installed and may be used; a plain table where not. A table that has rows already is left as it
-- is: to turn it into a hypertable takes a while, and is its owner's decision.
do $$
begin
    if exists (select from pg_available_extensions where name = 'timescaledb' and installed_version is null) then
        begin
            create extension if not exists timescaledb;
        exception when others then
            raise notice 'timescaledb is there but cannot be used: %', sqlerrm;
        end;
    end if;
    if exists (select from pg_proc where proname = 'create_hypertable')
        and not exists (select from fanfare.telemetry)
    then
        begin
            perform create_hypertable('fanfare.telemetry'::regclass, 'time'::name, if_not_exists => true);
        exception when others then
            raise notice 'fanfare.telemetry stays a plain table: %', sqlerrm;
        end;
    end if;
end
$$;
