-- The table that the program moves: one row an enterprise.
-- Runs as it is on an empty database, in psql and as one psycopg2 execute().

CREATE TABLE public.enterprises (
    id           serial PRIMARY KEY,  -- gaps are normal: a rolled-back insert uses up an id
    name         text NOT NULL,       -- any text, kept byte for byte: neither trimmed nor normalised
    created_date timestamptz,         -- an instant; NULL takes updated_date in the item
    updated_date timestamptz          -- an instant; NULL takes created_date in the item
);

COMMENT ON TABLE public.enterprises IS 'Enterprises, the source of the migration to DynamoDB';
