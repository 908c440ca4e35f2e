-- One sequence for all, so that a number names one record whatever its kind.
create sequence fanfare.record_ids;

-- What was stored lately. It makes repeats harmless (key), and it is the outbox: what has no published_at is yet to be
-- published. A table of its own because a hypertable's unique indexes must contain its time.
create table fanfare.outbox (
    key text primary key,
    record_id bigint not null,
    kind smallint not null,
    well_id text not null,
    time timestamptz not null,
    received_at timestamptz not null,
    stored_at timestamptz not null default now(),
    published_at timestamptz,
    event_id text,
    body text
);
create index outbox_unpublished on fanfare.outbox (record_id) where published_at is null;
create index outbox_stored_at on fanfare.outbox (stored_at);

create table fanfare.telemetry (
    telemetry_id bigint not null,
    well_id text not null,
    time timestamptz not null,
    flow_rate double precision,
    pip double precision,
    motor_current double precision,
    motor_temp double precision,
    vibration double precision,
    vsd_frequency double precision,
    flow_variance double precision,
    torque double precision,
    gor double precision,
    extra jsonb
);
create index telemetry_by_well on fanfare.telemetry (well_id, time desc, telemetry_id desc);

create table fanfare.alerts (
    alert_id bigint not null,
    well_id text not null,
    time timestamptz not null,
    type text not null,
    severity text not null,
    message text not null,
    value double precision,
    threshold double precision,
    extra jsonb
);
create index alerts_by_well on fanfare.alerts (well_id, time desc, alert_id desc);

create table fanfare.diagnostics (
    diagnostic_id bigint not null,
    well_id text not null,
    time timestamptz not null,
    diagnostic jsonb not null
);
create index diagnostics_by_well on fanfare.diagnostics (well_id, time desc, diagnostic_id desc);
