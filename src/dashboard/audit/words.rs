//! What the codes of the audit log mean to people. A code that is not here is shown as it is.

/// Codes and words, by the kind of thing, as the menu lists them.
pub(super) const ACTIONS: &[(&str, &str)] = &[
    ("session.sign_in", "Signed in"),
    ("session.sign_in_failed", "Failed to sign in"),
    ("session.second_factor_failed", "Gave a wrong second factor"),
    ("session.sign_out", "Signed out"),
    ("session.end", "Ended a session"),
    ("session.end_others", "Ended all other sessions"),
    ("user.create", "Created a user"),
    ("user.grant", "Granted or took credits"),
    ("user.enable", "Enabled a user"),
    ("user.disable", "Disabled a user"),
    ("user.make_admin", "Made a user an admin"),
    ("user.unmake_admin", "Took an admin’s powers"),
    ("user.set_password", "Set a password"),
    ("user.reset_password", "Reset a password"),
    ("user.sign_in_link", "Made a sign-in link"),
    ("user.sign_in_link_used", "Used a sign-in link"),
    ("user.second_factor_on", "Switched the second factor on"),
    ("user.second_factor_off", "Switched the second factor off"),
    ("user.reset_second_factor", "Reset a second factor"),
    ("user.recovery_codes", "Made new recovery codes"),
    ("user.recovery_code_used", "Used a recovery code"),
    ("user.delete", "Deleted a user"),
    ("key.create", "Created a key"),
    ("key.update", "Edited a key"),
    ("key.enable", "Enabled a key"),
    ("key.disable", "Disabled a key"),
    ("key.copy", "Copied a key"),
    ("key.reveal", "Revealed a key"),
    ("key.delete", "Deleted a key"),
    ("group.create", "Created a group"),
    ("group.rename", "Renamed a group"),
    ("group.set_multiplier", "Changed a group’s multiplier"),
    ("group.hide", "Hid a group from new keys"),
    ("group.unhide", "Offered a group for new keys again"),
    ("group.set_users", "Changed who may choose a group"),
    ("group.delete", "Deleted a group"),
    ("model.create", "Created a model"),
    ("model.set_price", "Priced a model"),
    ("model.set_route", "Routed a model"),
    ("model.remove_route", "Removed a route of a model"),
    ("model.set_max_output", "Changed a model’s maximum output"),
    ("model.hide", "Hid a model"),
    ("model.unhide", "Showed a model again"),
    ("model.delete", "Deleted a model"),
    ("upstream.create", "Created an upstream"),
    ("upstream.edit", "Edited an upstream"),
    ("upstream.set_secret", "Replaced an upstream’s secret"),
    ("upstream.unset_secret", "Removed an upstream’s secret"),
    ("upstream.test", "Tested an upstream"),
    ("upstream.enable", "Enabled an upstream"),
    ("upstream.disable", "Took an upstream out of rotation"),
    ("upstream.delete", "Deleted an upstream"),
];

/// Kinds of things: value in the URL, words.
pub(super) const KINDS: &[(&str, &str)] = &[
    ("", "About anything"),
    ("user", "Users"),
    ("key", "Keys"),
    ("group", "Groups"),
    ("model", "Models"),
    ("upstream", "Upstreams"),
    ("session", "Sessions"),
];

/// What an action is called.
pub(super) fn of(action: &str) -> &str {
    ACTIONS.iter().find(|(code, _)| *code == action).map_or(action, |(_, words)| words)
}
