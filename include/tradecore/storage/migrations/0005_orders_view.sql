-- A view's `i.*` is what the table had when the view was made: 0003 gave intents columns that orders did not show.
DROP VIEW orders;
CREATE VIEW orders AS
SELECT i.*, e.status, e.detail AS status_detail, e.happened_at AS status_at,
       coalesce(f.filled_e6, 0)::bigint AS filled_e6
FROM intents i
JOIN LATERAL (SELECT * FROM order_events o WHERE o.client_order_id = i.client_order_id
              ORDER BY o.event_no DESC LIMIT 1) e ON true
LEFT JOIN LATERAL (SELECT sum(qty_e6) AS filled_e6 FROM fills x
                   WHERE x.client_order_id = i.client_order_id) f ON true;
