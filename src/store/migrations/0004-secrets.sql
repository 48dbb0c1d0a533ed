-- Values of secrets, encrypted. Nothing in here can be read without the key whose id stands beside it.

create table secret_value (
  namespace text collate "C" not null,
  secret text collate "C" not null,
  key text collate "C" not null,
  -- Names the key of the ring by which the value is sealed.
  key_id text collate "C" not null,
  -- AES-256-GCM in base64, bound to namespace, secret and key.
  nonce text collate "C" not null,
  ciphertext text collate "C" not null,
  tag text collate "C" not null,
  updated_at timestamptz not null,
  primary key (namespace, secret, key)
);

create index secret_value_by_key on secret_value (key_id);
