create temporary table if not exists staging (
    position integer not null,
    record_id bigint not null default nextval('fanfare.record_ids'),
    key text not null,
    kind smallint not null,
    well_id text not null,
    time timestamptz not null,
    received_at timestamptz not null,
    body text not null
) on commit delete rows;
