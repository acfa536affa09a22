-- Merges what is left: an older release keeps nothing here.
INSERT INTO usage_hourly (user_id, key_id, start_ms, model, outcome, requests, input_tokens, cached_input_tokens, output_tokens, settled_micros, duration_ms, first_byte_ms, first_bytes)
SELECT CASE WHEN level.n = 0 THEN 0 ELSE r.user_id END, CASE WHEN level.n = 2 THEN r.key_id ELSE 0 END,
    r.start_ms - r.start_ms % 3600000, r.model, r.outcome,
    CAST(sum(r.requests) AS INTEGER), CAST(sum(r.input_tokens) AS INTEGER), CAST(sum(r.cached_input_tokens) AS INTEGER), CAST(sum(r.output_tokens) AS INTEGER), CAST(sum(r.settled_micros) AS INTEGER), CAST(sum(r.duration_ms) AS INTEGER), CAST(sum(r.first_byte_ms) AS INTEGER), CAST(sum(r.first_bytes) AS INTEGER)
FROM usage_recent r CROSS JOIN (SELECT 0 AS n UNION ALL SELECT 1 UNION ALL SELECT 2) level
WHERE r.start_ms >= (SELECT hourly_from_ms FROM usage_progress) GROUP BY 1, 2, 3, 4, 5
ON CONFLICT (user_id, key_id, start_ms, model, outcome) DO UPDATE SET
    requests = usage_hourly.requests + excluded.requests, input_tokens = usage_hourly.input_tokens + excluded.input_tokens, cached_input_tokens = usage_hourly.cached_input_tokens + excluded.cached_input_tokens, output_tokens = usage_hourly.output_tokens + excluded.output_tokens, settled_micros = usage_hourly.settled_micros + excluded.settled_micros, duration_ms = usage_hourly.duration_ms + excluded.duration_ms, first_byte_ms = usage_hourly.first_byte_ms + excluded.first_byte_ms, first_bytes = usage_hourly.first_bytes + excluded.first_bytes;
INSERT INTO usage_daily (user_id, key_id, start_ms, model, outcome, requests, input_tokens, cached_input_tokens, output_tokens, settled_micros, duration_ms, first_byte_ms, first_bytes)
SELECT CASE WHEN level.n = 0 THEN 0 ELSE r.user_id END, CASE WHEN level.n = 2 THEN r.key_id ELSE 0 END,
    r.start_ms - r.start_ms % 86400000, r.model, r.outcome,
    CAST(sum(r.requests) AS INTEGER), CAST(sum(r.input_tokens) AS INTEGER), CAST(sum(r.cached_input_tokens) AS INTEGER), CAST(sum(r.output_tokens) AS INTEGER), CAST(sum(r.settled_micros) AS INTEGER), CAST(sum(r.duration_ms) AS INTEGER), CAST(sum(r.first_byte_ms) AS INTEGER), CAST(sum(r.first_bytes) AS INTEGER)
FROM usage_recent r CROSS JOIN (SELECT 0 AS n UNION ALL SELECT 1 UNION ALL SELECT 2) level
WHERE r.start_ms >= 0 GROUP BY 1, 2, 3, 4, 5
ON CONFLICT (user_id, key_id, start_ms, model, outcome) DO UPDATE SET
    requests = usage_daily.requests + excluded.requests, input_tokens = usage_daily.input_tokens + excluded.input_tokens, cached_input_tokens = usage_daily.cached_input_tokens + excluded.cached_input_tokens, output_tokens = usage_daily.output_tokens + excluded.output_tokens, settled_micros = usage_daily.settled_micros + excluded.settled_micros, duration_ms = usage_daily.duration_ms + excluded.duration_ms, first_byte_ms = usage_daily.first_byte_ms + excluded.first_byte_ms, first_bytes = usage_daily.first_bytes + excluded.first_bytes;
DROP TABLE usage_recent;
