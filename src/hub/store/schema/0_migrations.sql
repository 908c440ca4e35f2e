create schema if not exists fanfare;
create table fanfare.migrations (
    version integer primary key,
    applied_at timestamptz not null default now()
);
