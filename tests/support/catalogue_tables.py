"""Tables that refer to enterprises in every way that a catalogue knows."""

ENTERPRISES = """
CREATE TYPE public.plan AS ENUM ('free', 'pro', 'über "alles"');
CREATE DOMAIN public.code AS varchar(20) NOT NULL CHECK (value IN ('a', 'b', 'c'));
CREATE DOMAIN public.short_code AS public.code CHECK (value IN ('a', 'b'));
CREATE TABLE public.enterprises (
    id serial PRIMARY KEY,
    name text NOT NULL,
    created_date timestamptz,
    updated_date timestamptz,
    plan public.plan NOT NULL,
    size text CHECK (size IN ('small', 'it''s large', E'back\\\\slash')),
    code public.short_code,
    tags text[] NOT NULL,
    plans public.plan[],
    settings jsonb,
    seats integer CHECK (seats >= 0),
    rating double precision,
    huge numeric(60, 2),
    seen timestamp,
    "Tax No" char(3) UNIQUE,
    parent_id integer REFERENCES public.enterprises,
    number integer NOT NULL UNIQUE,
    "SK" text,
    "a{b}" text
);
"""
REFERRERS = """
CREATE SCHEMA shop;
CREATE TABLE shop.categories (id integer PRIMARY KEY);
CREATE TABLE shop.products (
    id uuid PRIMARY KEY,
    seller_id integer REFERENCES public.enterprises,
    enterprise_id integer NOT NULL REFERENCES public.enterprises ON DELETE CASCADE,
    category_id integer REFERENCES shop.categories,
    created_at timestamp,
    region text NOT NULL,
    UNIQUE (id, region)
);
CREATE TABLE public.seats (
    seat text PRIMARY KEY,
    product_id uuid NOT NULL REFERENCES shop.products,
    stars smallint CHECK (stars IN (1, 2, 3)),
    last_update_date date
);
CREATE TABLE public.addresses (
    enterprise_id integer PRIMARY KEY REFERENCES public.enterprises
);
CREATE TABLE public.logs (
    enterprise_id integer REFERENCES public.enterprises, message text
);
CREATE TABLE public.notes (
    id bigint PRIMARY KEY,
    enterprise_number bigint REFERENCES public.enterprises (number)
);
CREATE TABLE public.events (
    id bigint, day date, enterprise_id integer NOT NULL REFERENCES public.enterprises,
    PRIMARY KEY (id, day)
) PARTITION BY RANGE (day);
CREATE TABLE public.events_2024 PARTITION OF public.events
    FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
CREATE TABLE public.visits (
    id bigint PRIMARY KEY, enterprise_id integer REFERENCES public.enterprises
) PARTITION BY HASH (id);
CREATE TABLE public.visits_0 PARTITION OF public.visits
    FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE public.visits_1 PARTITION OF public.visits
    FOR VALUES WITH (MODULUS 2, REMAINDER 1);
CREATE TABLE public."Order ""Free"" Lines" (
    id integer PRIMARY KEY,
    "the.enterprise:id" integer NOT NULL REFERENCES public.enterprises,
    product_id uuid, region text,
    FOREIGN KEY (product_id, region) REFERENCES shop.products (id, region)
);
CREATE TABLE public.stock (
    id integer PRIMARY KEY, product_id uuid, region text,
    FOREIGN KEY (product_id, region) REFERENCES shop.products (id, region)
);
CREATE TABLE public.strangers (id integer PRIMARY KEY);
"""
