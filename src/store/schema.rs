//! The tables, kept by hand so that one schema serves SQLite and PostgreSQL. Money is `…_micros`, time `…_at_ms`.

diesel::table! {
    users (id) {
        id -> BigInt,
        name -> Text,
        password_hash -> Text,
        is_admin -> Bool,
        enabled -> Bool,
        balance_micros -> BigInt,
        held_micros -> BigInt,
        revision -> BigInt,
        created_at_ms -> BigInt,
        deleted_at_ms -> Nullable<BigInt>,
    }
}

diesel::table! {
    sessions (key_digest) {
        key_digest -> Binary,
        user_id -> Nullable<BigInt>,
        state -> Text,
        created_at_ms -> BigInt,
        expires_at_ms -> BigInt,
        id -> Nullable<Text>,
        client_ip -> Nullable<Text>,
        user_agent -> Text,
        last_seen_at_ms -> BigInt,
        confirmed_at_ms -> BigInt,
    }
}

diesel::table! {
    sign_in_links (user_id) {
        user_id -> BigInt,
        digest -> Binary,
        created_at_ms -> BigInt,
        expires_at_ms -> BigInt,
    }
}

diesel::table! {
    second_factors (user_id) {
        user_id -> BigInt,
        ciphertext -> Binary,
        confirmed_at_ms -> Nullable<BigInt>,
        last_step -> BigInt,
        created_at_ms -> BigInt,
    }
}

diesel::table! {
    recovery_codes (user_id, digest) {
        user_id -> BigInt,
        digest -> Binary,
    }
}

diesel::table! {
    sign_in_throttles (subject) {
        subject -> Binary,
        full_at_ms -> BigInt,
    }
}

diesel::table! {
    groups (id) {
        id -> BigInt,
        name -> Text,
        multiplier_micros -> BigInt,
        revision -> BigInt,
        created_at_ms -> BigInt,
        hidden -> Bool,
        restricted -> Bool,
    }
}

diesel::table! {
    group_users (group_id, user_id) {
        group_id -> BigInt,
        user_id -> BigInt,
    }
}

diesel::table! {
    api_keys (id) {
        id -> BigInt,
        user_id -> BigInt,
        group_id -> BigInt,
        name -> Text,
        digest -> Binary,
        ciphertext -> Binary,
        last4 -> Text,
        enabled -> Bool,
        expires_at_ms -> Nullable<BigInt>,
        credit_limit_micros -> Nullable<BigInt>,
        models -> Text,
        ip_allowlist -> Text,
        revision -> BigInt,
        created_at_ms -> BigInt,
    }
}

diesel::table! {
    key_credits (key_id) {
        key_id -> BigInt,
        credits_used_micros -> BigInt,
        credits_held_micros -> BigInt,
        last_used_at_ms -> Nullable<BigInt>,
    }
}

diesel::table! {
    models (id) {
        id -> BigInt,
        name -> Text,
        max_output_tokens -> BigInt,
        revision -> BigInt,
        created_at_ms -> BigInt,
        hidden -> Bool,
        deleted_at_ms -> Nullable<BigInt>,
    }
}

diesel::table! {
    prices (id) {
        id -> BigInt,
        model_id -> BigInt,
        version -> BigInt,
        input_micros -> BigInt,
        cached_input_micros -> Nullable<BigInt>,
        output_micros -> BigInt,
        per_request_micros -> BigInt,
        created_at_ms -> BigInt,
        cache_write_micros -> Nullable<BigInt>,
        per_image_micros -> BigInt,
        per_audio_second_micros -> BigInt,
        per_character_micros -> BigInt,
    }
}

diesel::table! {
    upstreams (id) {
        id -> BigInt,
        name -> Text,
        dialect -> Text,
        base_url -> Text,
        secret_ciphertext -> Nullable<Binary>,
        pace_ms -> BigInt,
        enabled -> Bool,
        allow_private -> Bool,
        created_at_ms -> BigInt,
    }
}

diesel::table! {
    upstream_hourly (hour_ms, upstream_id) {
        hour_ms -> BigInt,
        upstream_id -> BigInt,
        answered -> BigInt,
        busy -> BigInt,
        unreachable -> BigInt,
        timed_out -> BigInt,
        broke_off -> BigInt,
        bad_status -> BigInt,
        bad_secret -> BigInt,
        unusable -> BigInt,
        latency_ms -> BigInt,
    }
}

diesel::table! {
    price_lists (user_id) {
        user_id -> BigInt,
        content -> Text,
        created_at_ms -> BigInt,
    }
}

diesel::table! {
    model_routes (id) {
        id -> BigInt,
        model_id -> BigInt,
        upstream_id -> BigInt,
        upstream_model -> Text,
        priority -> BigInt,
        weight -> BigInt,
    }
}

diesel::table! {
    instances (id) {
        id -> BigInt,
        started_at_ms -> BigInt,
        heartbeat_at_ms -> BigInt,
        master_key -> Nullable<Text>,
    }
}

diesel::table! {
    charges (id) {
        id -> BigInt,
        user_id -> BigInt,
        key_id -> BigInt,
        key_name -> Text,
        model -> Text,
        price_id -> BigInt,
        multiplier_micros -> BigInt,
        instance_id -> BigInt,
        state -> Text,
        held_micros -> BigInt,
        input_held_micros -> BigInt,
        settled_micros -> BigInt,
        outcome -> Nullable<Text>,
        usage_source -> Nullable<Text>,
        input_tokens -> Nullable<BigInt>,
        cached_input_tokens -> Nullable<BigInt>,
        output_tokens -> Nullable<BigInt>,
        upstream_id -> Nullable<BigInt>,
        status -> Nullable<BigInt>,
        first_byte_ms -> Nullable<BigInt>,
        created_at_ms -> BigInt,
        resolved_at_ms -> Nullable<BigInt>,
        cache_write_tokens -> Nullable<BigInt>,
        reasoning_tokens -> Nullable<BigInt>,
        images -> Nullable<BigInt>,
        audio_ms -> Nullable<BigInt>,
        characters -> Nullable<BigInt>,
    }
}

diesel::table! {
    charges_of_keys (user_id, key_id, created_at_ms, charge_id) {
        user_id -> BigInt,
        key_id -> BigInt,
        created_at_ms -> BigInt,
        charge_id -> BigInt,
    }
}

diesel::table! {
    charges_of_users (user_id, created_at_ms, charge_id) {
        user_id -> BigInt,
        created_at_ms -> BigInt,
        charge_id -> BigInt,
        price_id -> BigInt,
    }
}

diesel::table! {
    responses (user_id, response_id) {
        user_id -> BigInt,
        response_id -> Text,
        upstream_id -> BigInt,
        model -> Text,
        tokens -> BigInt,
        created_at_ms -> BigInt,
    }
}

diesel::table! {
    grants (id) {
        id -> BigInt,
        user_id -> BigInt,
        amount_micros -> BigInt,
        note -> Text,
        actor -> Text,
        created_at_ms -> BigInt,
    }
}

diesel::table! {
    audit_events (id) {
        id -> BigInt,
        at_ms -> BigInt,
        actor -> Text,
        action -> Text,
        subject -> Text,
        client_ip -> Nullable<Text>,
    }
}

diesel::table! {
    usage_recent (user_id, key_id, start_ms, model, outcome) {
        user_id -> BigInt,
        key_id -> BigInt,
        start_ms -> BigInt,
        model -> Text,
        outcome -> Text,
        requests -> BigInt,
        input_tokens -> BigInt,
        cached_input_tokens -> BigInt,
        output_tokens -> BigInt,
        settled_micros -> BigInt,
        duration_ms -> BigInt,
        first_byte_ms -> BigInt,
        first_bytes -> BigInt,
    }
}

diesel::table! {
    usage_hourly (start_ms, user_id, key_id, model, outcome) {
        user_id -> BigInt,
        key_id -> BigInt,
        start_ms -> BigInt,
        model -> Text,
        outcome -> Text,
        requests -> BigInt,
        input_tokens -> BigInt,
        cached_input_tokens -> BigInt,
        output_tokens -> BigInt,
        settled_micros -> BigInt,
        duration_ms -> BigInt,
        first_byte_ms -> BigInt,
        first_bytes -> BigInt,
    }
}

diesel::table! {
    usage_daily (start_ms, user_id, key_id, model, outcome) {
        user_id -> BigInt,
        key_id -> BigInt,
        start_ms -> BigInt,
        model -> Text,
        outcome -> Text,
        requests -> BigInt,
        input_tokens -> BigInt,
        cached_input_tokens -> BigInt,
        output_tokens -> BigInt,
        settled_micros -> BigInt,
        duration_ms -> BigInt,
        first_byte_ms -> BigInt,
        first_bytes -> BigInt,
    }
}

diesel::table! {
    usage_progress (id) {
        id -> BigInt,
        rolled_ms -> BigInt,
        closing_ms -> BigInt,
        hourly_from_ms -> BigInt,
    }
}

diesel::joinable!(sessions -> users (user_id));
diesel::joinable!(sign_in_links -> users (user_id));
diesel::joinable!(api_keys -> users (user_id));
diesel::joinable!(api_keys -> groups (group_id));
diesel::joinable!(key_credits -> api_keys (key_id));
diesel::joinable!(prices -> models (model_id));
diesel::joinable!(model_routes -> models (model_id));
diesel::joinable!(model_routes -> upstreams (upstream_id));
diesel::joinable!(grants -> users (user_id));
diesel::joinable!(charges_of_users -> charges (charge_id));
diesel::joinable!(group_users -> users (user_id));
diesel::joinable!(group_users -> groups (group_id));
diesel::allow_tables_to_appear_in_same_query!(
    users,
    sessions,
    sign_in_links,
    second_factors,
    recovery_codes,
    sign_in_throttles,
    groups,
    group_users,
    api_keys,
    key_credits,
    models,
    prices,
    upstreams,
    model_routes,
    charges,
    charges_of_keys,
    charges_of_users,
    grants,
    audit_events,
    instances,
    responses,
    upstream_hourly,
    price_lists
);
