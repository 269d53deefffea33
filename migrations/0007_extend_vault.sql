-- A user's event names the credential that counts, so that a hash may be stored before it does. Of the first ones, it is the user's own id.
ALTER TABLE vault_passwords ADD COLUMN credential_id uuid;
UPDATE vault_passwords SET credential_id = user_id;
ALTER TABLE vault_passwords ALTER COLUMN credential_id SET NOT NULL, DROP CONSTRAINT vault_passwords_pkey, ADD PRIMARY KEY (user_id, credential_id);

-- The epoch of its user in which a session began; it is valid in no other.
ALTER TABLE vault_sessions ADD COLUMN epoch bigint NOT NULL DEFAULT 0;
