-- The tables of the second sample: enterprises with further columns, and their products.
-- Runs as it is on an empty database, in psql and as one psycopg2 execute().

CREATE TABLE public.enterprises (
    id           serial PRIMARY KEY,  -- gaps are normal: a rolled-back insert uses up an id
    name         text NOT NULL,       -- any text, kept byte for byte: neither trimmed nor normalised
    plan         text                 -- a legacy plan is no longer sold; mapping.toml leaves it out
                 CHECK (plan IN ('free', 'pro', 'business', 'legacy')),
    seats        integer,             -- NULL is no limit
    settings     jsonb,               -- any document
    tags         text[],              -- becomes a set: without order and repetitions
    owner_email  text,                -- one owner may have several enterprises
    created_date timestamptz,         -- an instant; NULL takes updated_date in the item
    updated_date timestamptz          -- an instant; NULL takes created_date in the item
);

CREATE TABLE public.products (
    id            bigserial PRIMARY KEY,
    enterprise_id integer REFERENCES public.enterprises,  -- part of the item's key
    name          text NOT NULL,
    price         numeric,            -- of any precision
    stock         bigint,
    active        boolean,
    dimensions    numeric[],          -- mostly width, height and depth
    released      date,
    created_at    timestamptz,
    updated_at    timestamptz
);

CREATE INDEX products_enterprise_id_idx ON public.products (enterprise_id);

COMMENT ON TABLE public.enterprises IS 'Enterprises, the source of the migration to DynamoDB';
COMMENT ON TABLE public.products IS 'What enterprises sell; each item is stored beside its enterprise';
