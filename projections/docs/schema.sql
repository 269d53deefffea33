-- `data` is the text as it was written (members in their order, 1.0 not 1); `tree` is the same to ask for: {"<app>/<collection>": data}. The name on top makes
-- every hash in the index one of its app and collection, so that nobody's documents are in the way of anybody else's.
CREATE TABLE documents (
    app_id     uuid        NOT NULL,
    collection text        COLLATE "C" NOT NULL,
    id         text        COLLATE "C" NOT NULL,
    data       text        NOT NULL,
    tree       jsonb       NOT NULL,
    version    bigint      NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    PRIMARY KEY (app_id, collection, id)
);
-- Only of documents of ordinary length: the entries of a long one, up to 150000, would hold up everybody's commits for seconds. Entries wait in a short list,
-- because whoever finds it full brings all of them in.
CREATE INDEX documents_tree ON documents USING gin (tree jsonb_path_ops) WITH (gin_pending_list_limit = 256) WHERE octet_length(data) <= 16384;
CREATE INDEX documents_long ON documents (app_id, collection, id) WHERE octet_length(data) > 16384;
