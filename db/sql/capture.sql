-- What the triggers do, which keep both systems in step while the shop's application writes one and we write the other.
-- Each block is one function. They run as their owner, for the shop's role need not know schema stockshift, and under
-- ENABLE ALWAYS, for a replication that applies writes here is a writer too. A write of the shop must not fail because
-- of us: what cannot be followed is recorded as not followed, and verification names it. Nor should it take longer than
-- it must: a WHEN clause of the trigger would be read anew for every statement, so what changed is looked at here.

-- name: follow_item
-- An item's legacy columns, or its id, were updated. Its opening batch takes them in the same transaction (R7), unless
-- the item is cut over: then the write is drift (R10). Either way it is recorded.
CREATE OR REPLACE FUNCTION stockshift.follow_item() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $body$
DECLARE
    entry record;
    item record;
    units integer;
    label public."Status";
    cost double precision;
    freight double precision;
    ordered timestamp;
    expected timestamp;
    order_number text;
    remarks text;
    created timestamp;
    updated timestamp;
    place text;
    assignee text;
    there boolean := to_regclass('public.stock_batches') IS NOT NULL;
    was jsonb := '{}';
    becomes jsonb := '{}';
    gone text;
    followed boolean := false;
BEGIN
    -- A column that was renamed under us: the whole row is recorded, and whoever drives or verifies stops at it.
    BEGIN
        IF OLD."quantityInStock" IS DISTINCT FROM NEW."quantityInStock" THEN
            was := was || jsonb_build_object('quantityInStock', OLD."quantityInStock");
            becomes := becomes || jsonb_build_object('quantityInStock', NEW."quantityInStock");
        END IF;
        IF OLD."status" IS DISTINCT FROM NEW."status" THEN
            was := was || jsonb_build_object('status', OLD."status");
            becomes := becomes || jsonb_build_object('status', NEW."status");
        END IF;
        IF OLD."costPerUnitUSD" IS DISTINCT FROM NEW."costPerUnitUSD" THEN
            was := was || jsonb_build_object('costPerUnitUSD', OLD."costPerUnitUSD");
            becomes := becomes || jsonb_build_object('costPerUnitUSD', NEW."costPerUnitUSD");
        END IF;
        IF OLD."freightCostUSD" IS DISTINCT FROM NEW."freightCostUSD" THEN
            was := was || jsonb_build_object('freightCostUSD', OLD."freightCostUSD");
            becomes := becomes || jsonb_build_object('freightCostUSD', NEW."freightCostUSD");
        END IF;
        IF OLD."orderDate" IS DISTINCT FROM NEW."orderDate" THEN
            was := was || jsonb_build_object('orderDate', OLD."orderDate");
            becomes := becomes || jsonb_build_object('orderDate', NEW."orderDate");
        END IF;
        IF OLD."expectedArrival" IS DISTINCT FROM NEW."expectedArrival" THEN
            was := was || jsonb_build_object('expectedArrival', OLD."expectedArrival");
            becomes := becomes || jsonb_build_object('expectedArrival', NEW."expectedArrival");
        END IF;
        IF OLD."orderNumber" IS DISTINCT FROM NEW."orderNumber" THEN
            was := was || jsonb_build_object('orderNumber', OLD."orderNumber");
            becomes := becomes || jsonb_build_object('orderNumber', NEW."orderNumber");
        END IF;
        IF OLD."notes" IS DISTINCT FROM NEW."notes" THEN
            was := was || jsonb_build_object('notes', OLD."notes");
            becomes := becomes || jsonb_build_object('notes', NEW."notes");
        END IF;
        IF OLD."locationId" IS DISTINCT FROM NEW."locationId" THEN
            was := was || jsonb_build_object('locationId', OLD."locationId");
            becomes := becomes || jsonb_build_object('locationId', NEW."locationId");
        END IF;
        IF OLD."assignedUserId" IS DISTINCT FROM NEW."assignedUserId" THEN
            was := was || jsonb_build_object('assignedUserId', OLD."assignedUserId");
            becomes := becomes || jsonb_build_object('assignedUserId', NEW."assignedUserId");
        END IF;
        IF becomes = '{}' AND NEW.id = OLD.id THEN
            RETURN NULL;
        END IF;
        -- Written by us, out of the batches: that is recorded, and nothing follows it.
        IF current_setting('stockshift.reason', true) IN ('WRITE_BACK', 'TAKE_BACK') THEN
            INSERT INTO stockshift.legacy_write (item_id, operation, followed, before, after, application, role)
            VALUES (
                NEW.id, current_setting('stockshift.reason'), true, was, becomes, current_setting('application_name'),
                session_user
            );
            RETURN NULL;
        END IF;
    EXCEPTION WHEN undefined_column OR datatype_mismatch THEN
        INSERT INTO stockshift.legacy_write (item_id, operation, followed, before, after, application, role)
        VALUES (
            to_jsonb(NEW) ->> 'id', 'UNREADABLE', false, to_jsonb(OLD), to_jsonb(NEW),
            current_setting('application_name'), session_user
        );
        RETURN NULL;
    END;

    -- What is known of the item goes with its new id; its batches too, whichever key cascades first. What is known of an
    -- item that had this id before, and was deleted, gives way. Movements are found by batch: those of other batches
    -- that are gone add up to nothing, and may stay where they are.
    IF NEW.id <> OLD.id AND there THEN
        UPDATE public.stock_batches SET "itemId" = NEW.id WHERE "itemId" = OLD.id;
        gone := format('%s (deleted, %s)', NEW.id, gen_random_uuid());
        UPDATE stockshift.movement m SET item_id = gone
        FROM stockshift.copy_ledger l WHERE l.item_id = NEW.id AND m.batch_id = l.batch_id AND m.item_id = NEW.id;
        UPDATE stockshift.legacy_write SET item_id = gone WHERE item_id = NEW.id;
        UPDATE stockshift.copy_ledger SET item_id = gone WHERE item_id = NEW.id;
        UPDATE stockshift.movement m SET item_id = NEW.id
        FROM (
            SELECT b.id FROM public.stock_batches b WHERE b."itemId" = NEW.id
            UNION SELECT l.batch_id FROM stockshift.copy_ledger l WHERE l.item_id = OLD.id
        ) AS mine
        WHERE m.batch_id = mine.id AND m.item_id = OLD.id;
        UPDATE stockshift.legacy_write SET item_id = NEW.id WHERE item_id = OLD.id;
        UPDATE stockshift.copy_ledger SET item_id = NEW.id WHERE item_id = OLD.id;
        IF becomes = '{}' THEN
            was := jsonb_build_object('id', OLD.id);
            becomes := jsonb_build_object('id', NEW.id);
        END IF;
    END IF;

    SELECT l.batch_id, l.choices, l.cut_over_at IS NULL AS follows INTO entry
    FROM stockshift.copy_ledger l WHERE l.item_id = NEW.id;

    -- A snapshot older than the copy does not show it. The ledger's key does: then this raises a serialization failure,
    -- as for any other row that changed since. Else the probe is taken away again.
    IF NOT FOUND AND current_setting('transaction_isolation') IN ('repeatable read', 'serializable') THEN
        INSERT INTO stockshift.copy_ledger (item_id, batch_id, original)
        VALUES (NEW.id, 'probe ' || NEW.id, 'null') ON CONFLICT DO NOTHING;
        DELETE FROM stockshift.copy_ledger WHERE item_id = NEW.id AND batch_id = 'probe ' || NEW.id;
    END IF;

    -- The row as it is now, which a trigger of the shop may have written once more since. What a batch cannot take: no
    -- status, or one that the type lacks; no cost; a location or user that is none; a value past its column's type.
    IF entry.follows AND there THEN
        BEGIN
            SELECT i.* INTO item FROM public.items i WHERE i.id = NEW.id;
            units := COALESCE(item."quantityInStock", 0);
            freight := COALESCE(item."freightCostUSD", 0);
            ordered := COALESCE(item."orderDate", (entry.choices ->> 'orderDate')::timestamp);
            expected := item."expectedArrival";
            order_number := item."orderNumber";
            remarks := item."notes";
            created := item."createdAt";
            updated := item."updatedAt";
            place := item."locationId";
            assignee := item."assignedUserId";
            followed := true;
            IF becomes ? 'status' THEN
                SELECT s.label INTO label FROM unnest(enum_range(NULL::public."Status")) AS s (label)
                WHERE s.label::text = COALESCE(item."status"::text, entry.choices ->> 'status');
                followed := FOUND;
            END IF;
            IF becomes ? 'costPerUnitUSD' THEN
                cost := COALESCE(
                    item."costPerUnitUSD", (entry.choices ->> 'costPerUnitUSD')::double precision
                );
                followed := followed AND cost IS NOT NULL;
            END IF;
        EXCEPTION WHEN data_exception OR datatype_mismatch OR undefined_column THEN
            there := false;
            followed := false;
        END;
    END IF;
    IF entry.follows AND there THEN
        IF place IS NOT NULL AND becomes ? 'locationId' THEN
            SELECT l.id INTO place FROM public.locations l WHERE l.id = place;
            followed := followed AND FOUND;
        END IF;
        IF assignee IS NOT NULL AND becomes ? 'assignedUserId' THEN
            SELECT u.id INTO assignee FROM public.users u WHERE u.id = assignee;
            followed := followed AND FOUND;
        END IF;
        UPDATE public.stock_batches b SET
            quantity = units,
            status = COALESCE(label, b.status),
            "costPerUnitUSD" = COALESCE(cost, b."costPerUnitUSD"),
            "freightCostUSD" = freight,
            "orderDate" = ordered,
            "expectedArrival" = expected,
            "orderNumber" = order_number,
            notes = remarks,
            "createdAt" = COALESCE(created, b."createdAt"),
            "updatedAt" = COALESCE(updated, b."updatedAt"),
            "locationId" = place,
            "assignedUserId" = assignee
        WHERE b.id = entry.batch_id AND b."itemId" = NEW.id;
        followed := followed AND FOUND;
    END IF;

    INSERT INTO stockshift.legacy_write (item_id, operation, followed, before, after, application, role)
    VALUES (NEW.id, 'UPDATE', followed, was, becomes, current_setting('application_name'), session_user);
    RETURN NULL;
END
$body$;

-- name: follow_inserted_items
-- Items were inserted: that is recorded. They are answered from their legacy columns until they are copied. One under
-- the id of an item that was copied and then deleted gets that opening batch again, for R1 answers it from its batches.
CREATE OR REPLACE FUNCTION stockshift.follow_inserted_items() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $body$
BEGIN
    IF to_regclass('public.stock_batches') IS NULL THEN
        INSERT INTO stockshift.legacy_write (item_id, operation, followed, after, application, role)
        SELECT i.id, 'INSERT', false, to_jsonb(i), current_setting('application_name'), session_user FROM inserted i;
        RETURN NULL;
    END IF;

    -- As for an update: a snapshot that is older than the copy does not show it.
    IF current_setting('transaction_isolation') IN ('repeatable read', 'serializable') THEN
        INSERT INTO stockshift.copy_ledger (item_id, batch_id, original)
        SELECT i.id, 'probe ' || i.id, 'null' FROM inserted i
        WHERE NOT EXISTS (SELECT FROM stockshift.copy_ledger l WHERE l.item_id = i.id) ON CONFLICT DO NOTHING;
        DELETE FROM stockshift.copy_ledger l USING inserted i
        WHERE l.item_id = i.id AND l.batch_id = 'probe ' || i.id;
    END IF;

    UPDATE stockshift.copy_ledger l SET cut_over_at = NULL
    FROM inserted i WHERE l.item_id = i.id AND l.cut_over_at IS NOT NULL;

    INSERT INTO public.stock_batches (
        id, quantity, status, "costPerUnitUSD", "freightCostUSD", "orderDate", "expectedArrival", "orderNumber", notes,
        "createdAt", "updatedAt", "itemId", "locationId", "assignedUserId"
    )
    SELECT
        l.batch_id, COALESCE(i."quantityInStock", 0), s.label,
        COALESCE(i."costPerUnitUSD", (l.choices ->> 'costPerUnitUSD')::double precision),
        COALESCE(i."freightCostUSD", 0), COALESCE(i."orderDate", (l.choices ->> 'orderDate')::timestamp),
        i."expectedArrival", i."orderNumber", i."notes", i."createdAt", i."updatedAt", i.id, place.id, assignee.id
    FROM inserted
    JOIN public.items i ON i.id = inserted.id
    JOIN stockshift.copy_ledger l ON l.item_id = i.id
    JOIN unnest(enum_range(NULL::public."Status")) AS s (label)
        ON s.label::text = COALESCE(i."status"::text, l.choices ->> 'status')
    LEFT JOIN public.locations place ON place.id = i."locationId"
    LEFT JOIN public.users assignee ON assignee.id = i."assignedUserId"
    WHERE COALESCE(i."costPerUnitUSD", (l.choices ->> 'costPerUnitUSD')::double precision) IS NOT NULL
        AND i."createdAt" IS NOT NULL AND i."updatedAt" IS NOT NULL
        AND NOT EXISTS (SELECT FROM public.stock_batches b WHERE b.id = l.batch_id);

    INSERT INTO stockshift.legacy_write (item_id, operation, followed, after, application, role)
    SELECT
        i.id, 'INSERT',
        EXISTS (
            SELECT FROM stockshift.copy_ledger l JOIN public.stock_batches b ON b.id = l.batch_id
            WHERE l.item_id = i.id AND b."itemId" = i.id
        ),
        jsonb_build_object(
            'quantityInStock', i."quantityInStock", 'status', i."status", 'costPerUnitUSD', i."costPerUnitUSD",
            'freightCostUSD', i."freightCostUSD", 'orderDate', i."orderDate", 'expectedArrival', i."expectedArrival",
            'orderNumber', i."orderNumber", 'notes', i."notes", 'locationId', i."locationId",
            'assignedUserId', i."assignedUserId"
        ),
        current_setting('application_name'), session_user
    FROM inserted i;
    RETURN NULL;
EXCEPTION WHEN undefined_column THEN
    INSERT INTO stockshift.legacy_write (item_id, operation, followed, after, application, role)
    SELECT to_jsonb(i) ->> 'id', 'UNREADABLE', false, to_jsonb(i), current_setting('application_name'), session_user
    FROM inserted i;
    RETURN NULL;
END
$body$;

-- name: follow_deleted_items
-- Items were deleted, and their batches with them, by the key. The ledger keeps what they were when they were copied;
-- here is what they were in the end.
CREATE OR REPLACE FUNCTION stockshift.follow_deleted_items() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $body$
BEGIN
    INSERT INTO stockshift.legacy_write (item_id, operation, followed, before, application, role)
    SELECT
        d.id, 'DELETE', EXISTS (SELECT FROM stockshift.copy_ledger l WHERE l.item_id = d.id), to_jsonb(d),
        current_setting('application_name'), session_user
    FROM deleted d;
    RETURN NULL;
END
$body$;

-- name: follow_truncated_items
-- All items are about to go. TRUNCATE is refused unless it cascades to their batches, which record it themselves.
CREATE OR REPLACE FUNCTION stockshift.follow_truncated_items() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $body$
BEGIN
    INSERT INTO stockshift.legacy_write (item_id, operation, followed, before, application, role)
    SELECT
        i.id, 'TRUNCATE', EXISTS (SELECT FROM stockshift.copy_ledger l WHERE l.item_id = i.id), to_jsonb(i),
        current_setting('application_name'), session_user
    FROM public.items i;
    RETURN NULL;
END
$body$;

-- name: move_batch
-- A batch's quantity changed, by whoever (R11), or its status, place, cost or freight did. A change of quantity alone is
-- one line; of the rest, all of the batch leaves as it was, and comes as it is, so that by place and status the lines sum
-- up to what is there, in units and in money. A write of ours says its reason; one that comes out of another trigger
-- follows the legacy columns. A batch that goes from one item to another leaves the one and comes to the other, unless
-- the item itself has a new id. A batch that gets a new id keeps its history.
CREATE OR REPLACE FUNCTION stockshift.move_batch() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $body$
DECLARE
    reason text := NULLIF(current_setting('stockshift.reason', true), '');
    actor text := NULLIF(current_setting('stockshift.actor', true), '');
    leaves bigint := -OLD.quantity::bigint;
    comes bigint := NEW.quantity;
    owner text := NEW."itemId";
    was_in text;
    is_in text;
    was_as text;
    is_as text;
    cost double precision;
    costs double precision;
    freight double precision := 0;
    freights double precision := 0;
    whole boolean := TG_OP <> 'UPDATE';
BEGIN
    IF reason IS NULL THEN
        reason := CASE WHEN TG_OP = 'DELETE' THEN 'DELETED'
                       WHEN pg_trigger_depth() > 1 THEN 'LEGACY_WRITE' ELSE 'DIRECT' END;
    END IF;
    IF TG_OP = 'UPDATE' THEN
        IF NEW.id <> OLD.id THEN
            UPDATE stockshift.copy_ledger SET batch_id = NEW.id WHERE batch_id = OLD.id;
            UPDATE stockshift.movement SET batch_id = NEW.id WHERE batch_id = OLD.id;
        END IF;
        IF NEW."itemId" <> OLD."itemId" AND EXISTS (SELECT FROM public.items i WHERE i.id = OLD."itemId") THEN
            whole := true;
            owner := OLD."itemId";
        END IF;
    ELSIF TG_OP = 'DELETE' THEN
        owner := OLD."itemId";
    END IF;

    -- A column that is gone must not make a write fail: then it is not known where the batch is, and what it cost.
    BEGIN
        was_in := OLD."locationId";
        is_in := NEW."locationId";
        was_as := OLD.status;
        is_as := NEW.status;
        cost := OLD."costPerUnitUSD";
        costs := NEW."costPerUnitUSD";
        freight := -OLD."freightCostUSD";
        freights := NEW."freightCostUSD";
        whole := whole OR (was_in, was_as, cost, -freight) IS DISTINCT FROM (is_in, is_as, costs, freights);
    EXCEPTION WHEN undefined_column OR data_exception THEN
        was_as := NULL;
        is_as := NULL;
    END;

    IF NOT whole THEN
        comes := comes + leaves;
        leaves := 0;
        freight := 0;
        freights := 0;
    END IF;
    IF leaves <> 0 OR freight <> 0 THEN
        INSERT INTO stockshift.movement (
            batch_id, item_id, delta, reason, actor, application, role, status, location_id, unit_cost, freight
        )
        VALUES (
            COALESCE(NEW.id, OLD.id), owner, leaves, reason, actor, current_setting('application_name'), session_user,
            was_as, was_in, cost, freight
        );
    END IF;
    IF comes <> 0 OR freights <> 0 THEN
        INSERT INTO stockshift.movement (
            batch_id, item_id, delta, reason, actor, application, role, status, location_id, unit_cost, freight
        )
        VALUES (
            NEW.id, NEW."itemId", comes, reason, actor, current_setting('application_name'), session_user,
            is_as, is_in, costs, freights
        );
    END IF;
    RETURN NULL;
END
$body$;

-- name: move_truncated_batches
-- All batches are about to go. Their columns are read by name, as one of them may be gone already.
CREATE OR REPLACE FUNCTION stockshift.move_truncated_batches() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $body$
BEGIN
    INSERT INTO stockshift.movement (
        batch_id, item_id, delta, reason, application, role, status, location_id, unit_cost, freight
    )
    SELECT b.id, b."itemId", -b.quantity::bigint, 'TRUNCATED', current_setting('application_name'), session_user,
        b.status::text, r.known ->> 'locationId', (r.known ->> 'costPerUnitUSD')::double precision,
        -COALESCE((r.known ->> 'freightCostUSD')::double precision, 0)
    FROM public.stock_batches b CROSS JOIN LATERAL to_jsonb(b) AS r (known)
    WHERE b.quantity <> 0 OR (r.known ->> 'freightCostUSD')::double precision <> 0;
    RETURN NULL;
END
$body$;

-- name: follow_batches
-- Write-back (R10): batches changed, so the legacy columns of their items follow, if these are cut over. The items are
-- locked first, also those that are not, for somebody may be cutting one over; only then it is summed, by a statement of
-- its own, which sees what whoever had the lock before us has committed. Who has an item's batch and wants the item
-- must not make a deadlock that the shop loses, as when it deletes that item. So whom somebody waits for who is at work
-- on items gives up, well within the time that PostgreSQL lets a deadlock be (deadlock_timeout, a second). If that one
-- waits for a batch already, it may be about to notice, and nobody waits here at all.
CREATE OR REPLACE FUNCTION stockshift.follow_batches() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $body$
DECLARE
    changed text[];
    patience text := current_setting('lock_timeout');
    since timestamptz := clock_timestamp();
    again boolean := false;
BEGIN
    IF TG_OP = 'INSERT' THEN
        SELECT array_agg(DISTINCT c."itemId") INTO changed FROM came c;
    ELSIF TG_OP = 'DELETE' THEN
        SELECT array_agg(DISTINCT w."itemId") INTO changed FROM went w;
    ELSIF TG_OP = 'UPDATE' THEN
        SELECT array_agg(DISTINCT each_one.item) INTO changed
        FROM went w FULL JOIN came c ON c.id = w.id
        CROSS JOIN LATERAL (VALUES (w."itemId"), (c."itemId")) AS each_one (item)
        WHERE each_one.item IS NOT NULL AND (w.quantity, w.status, w."locationId", w."itemId", w."createdAt")
            IS DISTINCT FROM (c.quantity, c.status, c."locationId", c."itemId", c."createdAt");
    ELSE
        SELECT array_agg(l.item_id) INTO changed FROM stockshift.copy_ledger l WHERE l.cut_over_at IS NOT NULL;
    END IF;
    IF changed IS NULL THEN
        RETURN NULL;
    END IF;

    LOOP
        BEGIN
            PERFORM set_config('lock_timeout', '200ms', true);
            IF again THEN
                PERFORM FROM public.items i WHERE i.id = ANY (changed) ORDER BY i.id FOR NO KEY UPDATE;
            ELSE
                PERFORM FROM public.items i WHERE i.id = ANY (changed) ORDER BY i.id FOR NO KEY UPDATE NOWAIT;
            END IF;
            PERFORM stockshift.write_back(changed);
            PERFORM set_config('lock_timeout', patience, true);
            RETURN NULL;
        EXCEPTION WHEN lock_not_available THEN
            IF patience::interval > '0' AND clock_timestamp() - since > patience::interval THEN
                RAISE;
            END IF;
            IF EXISTS (
                SELECT FROM pg_locks waits JOIN pg_locks has ON has.pid = waits.pid
                WHERE NOT waits.granted AND has.granted AND has.relation = 'public.items'::regclass
                    AND has.mode <> 'AccessShareLock'
                    AND (again OR EXISTS (
                        SELECT FROM pg_locks wants WHERE wants.pid = waits.pid AND wants.locktype = 'tuple'
                            AND wants.relation = 'public.stock_batches'::regclass
                    ))
                    AND pg_backend_pid() = ANY (pg_blocking_pids(waits.pid))
            ) THEN
                RAISE serialization_failure USING
                    MESSAGE = 'somebody writes the item of this batch, and waits for the batch; try again';
            END IF;
            again := true;
        END;
    END LOOP;
END
$body$;

-- name: write_back
-- Makes the legacy quantity, status and location of these items what their batches say, of those that are cut over. The
-- status and the location are those of the batch with the most units, of these the oldest. Of an item without
-- batches the quantity alone is written. What the shop's own rules refuse stays as it was: a write of a batch does not
-- fail because of us, and verification names it.
CREATE OR REPLACE FUNCTION stockshift.write_back(wanted text[]) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $body$
DECLARE
    reason text := COALESCE(current_setting('stockshift.reason', true), '');
    one text;
BEGIN
    PERFORM set_config('stockshift.reason', 'WRITE_BACK', true);
    BEGIN
        UPDATE public.items i SET "quantityInStock" = stock.units, "status" = stock.label, "locationId" = stock.place
        FROM (
            SELECT
                b."itemId" AS item, sum(b.quantity) AS units,
                (array_agg(b.status ORDER BY b.quantity DESC, b."createdAt", b.id))[1] AS label,
                (array_agg(b."locationId" ORDER BY b.quantity DESC, b."createdAt", b.id))[1] AS place
            FROM public.stock_batches b JOIN stockshift.copy_ledger l ON l.item_id = b."itemId"
            WHERE b."itemId" = ANY (wanted) AND l.cut_over_at IS NOT NULL
            GROUP BY b."itemId"
        ) AS stock
        WHERE i.id = stock.item AND (i."quantityInStock", i."status"::text, i."locationId")
            IS DISTINCT FROM (stock.units, stock.label::text, stock.place);
        UPDATE public.items i SET "quantityInStock" = 0
        FROM stockshift.copy_ledger l
        WHERE i.id = ANY (wanted) AND l.item_id = i.id AND l.cut_over_at IS NOT NULL
            AND i."quantityInStock" IS DISTINCT FROM 0
            AND NOT EXISTS (SELECT FROM public.stock_batches b WHERE b."itemId" = i.id);
    EXCEPTION
        WHEN integrity_constraint_violation OR data_exception OR raise_exception OR undefined_column
            OR undefined_table OR datatype_mismatch THEN
            IF cardinality(wanted) > 1 THEN
                FOREACH one IN ARRAY wanted LOOP
                    PERFORM stockshift.write_back(ARRAY[one]);
                END LOOP;
            END IF;
    END;
    PERFORM set_config('stockshift.reason', reason, true);
END
$body$;
