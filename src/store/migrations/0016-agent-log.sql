-- breaking: no
-- What an agent does, shown while it works.
alter type log_stream add value if not exists 'agent';
