-- Who changed what may trade, when and why: append-only, each row sealed with the hash of the one before it, so that an
-- altered, removed or inserted row breaks the chain from there on (`tradecore audit verify`). Rows are written by the
-- database itself, in the transaction of what they tell: nothing goes past them.
CREATE TABLE audit_log (
    entry_no     bigint PRIMARY KEY,
    happened_at  timestamptz NOT NULL,
    kind         text NOT NULL,
    subject      text NOT NULL,
    actor        text NOT NULL,
    detail       text NOT NULL,
    sealed       text NOT NULL
);

-- The seal of a row: sha256 of its fields, each with its length in front, behind the seal of the row before.
CREATE FUNCTION audit_seal(before text, entry_no bigint, happened_at timestamptz, kind text, subject text, actor text,
                           detail text) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT encode(sha256(convert_to(string_agg(length(field) || ':' || field, '' ORDER BY place), 'UTF8')), 'hex')
    FROM unnest(ARRAY[before, entry_no::text, (extract(epoch FROM happened_at) * 1000000)::bigint::text, kind, subject,
                      actor, detail]) WITH ORDINALITY AS fields (field, place)
$$;

CREATE FUNCTION audit_append(kind text, subject text, actor text, detail text) RETURNS void LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    last record;
    at timestamptz := clock_timestamp();
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('tradecore.audit_log'));  -- one after the other, until the commit
    SELECT entry_no, sealed INTO last FROM audit_log ORDER BY entry_no DESC LIMIT 1;
    INSERT INTO audit_log VALUES (
        coalesce(last.entry_no, 0) + 1, at, kind, subject, actor, detail,
        audit_seal(coalesce(last.sealed, ''), coalesce(last.entry_no, 0) + 1, at, kind, subject, actor, detail));
END
$$;

CREATE FUNCTION audit_refuse() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    RAISE EXCEPTION 'audit_log is append-only';
END
$$;
CREATE TRIGGER audit_is_append_only BEFORE UPDATE OR DELETE ON audit_log FOR EACH ROW EXECUTE FUNCTION audit_refuse();

CREATE FUNCTION audit_state() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM audit_append('trading_state', NEW.book, NEW.actor, format('%s -> %s from %s: %s',
        (ARRAY['ACTIVE', 'REDUCING', 'HALTED'])[NEW.from_state + 1],
        (ARRAY['ACTIVE', 'REDUCING', 'HALTED'])[NEW.to_state + 1],
        to_char(NEW.bar_end_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI"Z"'), NEW.reason));
    RETURN NEW;
END
$$;
CREATE TRIGGER audit_state_events AFTER INSERT ON state_events FOR EACH ROW EXECUTE FUNCTION audit_state();

CREATE FUNCTION audit_approval() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    IF NEW.verdict IN ('approved', 'rejected') THEN
        PERFORM audit_append('approval', NEW.book, NEW.actor, format('%s version %s of %s, sheet %s', NEW.verdict, NEW.version,
            to_char(NEW.bar_end_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI"Z"'), NEW.sheet_hash));
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER audit_approvals AFTER INSERT OR UPDATE OF verdict ON approvals
    FOR EACH ROW EXECUTE FUNCTION audit_approval();

CREATE FUNCTION audit_live() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    IF TG_OP = 'INSERT' AND NOT NEW.live_enabled THEN
        RETURN NEW;
    END IF;
    IF TG_OP = 'INSERT' OR NEW.live_enabled <> OLD.live_enabled THEN
        PERFORM audit_append('live_trading', NEW.account, NEW.changed_by,
            format('%s: %s', CASE WHEN NEW.live_enabled THEN 'on' ELSE 'off' END, NEW.reason));
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER audit_broker_accounts AFTER INSERT OR UPDATE ON broker_accounts
    FOR EACH ROW EXECUTE FUNCTION audit_live();

-- A person's order to sell everything: in force from its bar on until the book is ACTIVE again by a person.
CREATE TABLE flatten_orders (
    book        text NOT NULL REFERENCES books,
    bar_end_at  timestamptz NOT NULL,
    actor       text NOT NULL,
    reason      text NOT NULL,
    PRIMARY KEY (book, bar_end_at)
);
CREATE FUNCTION audit_flatten() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM audit_append('flatten', NEW.book, NEW.actor, NEW.reason);
    RETURN NEW;
END
$$;
CREATE TRIGGER audit_flatten_orders AFTER INSERT ON flatten_orders FOR EACH ROW EXECUTE FUNCTION audit_flatten();
