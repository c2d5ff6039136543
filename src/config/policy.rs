//! The file that `auth.policy` names: who may do what.
//!
//! ```toml
//! [[rule]]
//! principals = ["spiffe://example.org/ns/shop/sa/worker-*"]
//! instances  = ["main", "shop-*"]
//! roles      = ["use"]
//! ```

use crate::config::sources::Mistake;
use crate::config::tables::Document;
use crate::config::tables::{Tables, Text, Wrong};
use crate::domain::access::{Pattern, Policy, Role, Roles, Rule};
use crate::domain::id::Malformed;
use crate::domain::limits::{POLICY_RULES_MAX, RULE_PATTERNS_MAX};

const RULES: Tables = Tables {
    name: "rule",
    keys: &["principals", "instances", "roles"],
    max: POLICY_RULES_MAX,
    none: "nobody could do anything",
};

/// Reads a policy, or says all that is wrong with it.
pub fn policy(file: &Document) -> Result<Policy, Vec<Mistake>> {
    let rules = RULES.read(file, |row, wrong| {
        let principals = row.texts("principals", RULE_PATTERNS_MAX, wrong);
        let principals =
            principals.map(|texts| patterns(&texts, Pattern::of_principals, "principals", wrong));
        let instances = row.texts("instances", RULE_PATTERNS_MAX, wrong);
        let instances =
            instances.map(|texts| patterns(&texts, Pattern::of_instances, "instances", wrong));
        let roles = row.texts("roles", Role::ALL.len(), wrong).map(|texts| roles(&texts, wrong));
        Some(Rule { principals: principals?, instances: instances?, roles: roles? })
    })?;
    Ok(Policy::new(rules))
}

fn patterns(
    texts: &[Text<'_>],
    parse: impl Fn(&str) -> Result<Pattern, Malformed>,
    key: &str,
    wrong: &mut Wrong<'_>,
) -> Vec<Pattern> {
    let mut patterns = Vec::with_capacity(texts.len());
    for Text { text, place } in texts {
        match parse(text) {
            Ok(pattern) => patterns.push(pattern),
            Err(rule) => wrong.at(place, format!("{key}: '{}' {rule}", text.escape_debug())),
        }
    }
    patterns
}

fn roles(texts: &[Text<'_>], wrong: &mut Wrong<'_>) -> Roles {
    let mut roles = Vec::with_capacity(texts.len());
    for Text { text, place } in texts {
        match text.parse::<Role>() {
            Ok(role) => roles.push(role),
            Err(rule) => {
                wrong.at(
                    place,
                    format!("roles: there is no role '{}': {rule}", text.escape_debug()),
                );
            }
        }
    }
    roles.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::id::Principal;

    fn read(text: &str) -> Result<Policy, Vec<String>> {
        let file = Document { name: "policy.toml".to_owned(), text: text.to_owned() };
        policy(&file).map_err(|mistakes| mistakes.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn rules_are_read() {
        let policy = read(
            "[[rule]]\nprincipals = ['w-*', 'spiffe://x/y']\ninstances = ['main']\nroles = ['use', 'observe']\n\
             [[rule]]\nprincipals = ['root']\ninstances = ['*']\nroles = ['admin']\n",
        )
        .unwrap();
        let roles = |who: &str, id: &str| policy.roles(&Principal::new(who), &id.parse().unwrap());
        assert_eq!(format!("{:?}", roles("w-1", "main")), "{Observe, Use}");
        assert_eq!(format!("{:?}", roles("spiffe://x/y", "other")), "{}");
        assert_eq!(format!("{:?}", roles("root", "other")), "{Observe, Use, Operate, Admin}");
    }

    #[test]
    fn all_mistakes_are_told_with_their_lines() {
        let text = "[[rule]]\nprincipals = ['a*b']\ninstances = ['instances/main',\n  'ok']\nroles = ['root', 1]\n\
                    [[rule]]\nprincipals = []\ninstance = ['x']\nroles = 'use'\n\
                    [other]\nx = 1\n";
        let mistakes = read(text).unwrap_err();
        let expected = [
            "policy.toml:10: 'other' is not known here; there is only [[rule]]",
            "policy.toml:8: 'instance' is not known here; a rule has principals, instances, roles",
            "policy.toml:6: this rule has no instances; it needs principals, instances, roles",
            "policy.toml:2: principals: 'a*b' may have one * and only at its end",
            "policy.toml:3: instances: 'instances/main' must be an instance id such as main, without \
             instances/ before it, or the beginning of ids such as pool-*",
            "policy.toml:5: roles must be an array of texts",
            "policy.toml:5: roles: there is no role 'root': a role is one of observe, use, operate, admin",
            "policy.toml:7: principals must have 1 to 64 texts",
            "policy.toml:9: roles must be an array of texts",
        ];
        assert_eq!(mistakes, expected);
    }

    #[test]
    fn what_is_no_list_of_rules_is_refused() {
        for (text, what) in [
            ("", "policy.toml:1: has no [[rule]]: nobody could do anything"),
            ("rule = []", "policy.toml:1: has no [[rule]]: nobody could do anything"),
            ("rule = 7", "policy.toml:1: must be [[rule]], with two brackets"),
            ("[rule]\nroles = []", "policy.toml:1: must be [[rule]], with two brackets"),
            ("rule = [1]", "policy.toml:1: must be a table, as after [[rule]]"),
        ] {
            assert_eq!(read(text).unwrap_err(), [what], "{text}");
        }
        let broken = read("\n[[rule]\n").unwrap_err();
        assert!(broken.len() == 1 && broken[0].starts_with("policy.toml:2: "), "{broken:?}");
    }

    #[test]
    fn there_are_not_too_many_rules() {
        let rule = "[[rule]]\nprincipals = ['a']\ninstances = ['a']\nroles = ['use']\n";
        assert!(read(&rule.repeat(POLICY_RULES_MAX)).is_ok());
        let mistakes = read(&rule.repeat(POLICY_RULES_MAX + 2)).unwrap_err();
        assert_eq!(mistakes, ["policy.toml:4097: there may be 1024 of [[rule]] and no more"]);
    }
}
