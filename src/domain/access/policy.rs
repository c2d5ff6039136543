//! Rules that give principals roles for instances.

use std::sync::Arc;

use crate::domain::access::{Role, Roles};
use crate::domain::id::{InstanceId, Malformed, Principal};
use crate::domain::limits::{INSTANCE_ID_BYTES_MAX, PRINCIPAL_BYTES_MAX};

/// A name, or the beginning of names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pattern {
    /// This name and no other.
    Exact(Box<str>),
    /// Every name that begins so.
    Prefix(Box<str>),
}

impl Pattern {
    /// A pattern of principals: a name, or the beginning of names with `*` after it.
    pub fn of_principals(text: &str) -> Result<Self, Malformed> {
        let pattern = Self::new(text)?;
        let (Self::Exact(words) | Self::Prefix(words)) = &pattern;
        if words.len() > PRINCIPAL_BYTES_MAX || words.chars().any(char::is_control) {
            return Err(Malformed(
                "a principal is up to 256 bytes of text without control characters",
            ));
        }
        Ok(pattern)
    }

    /// A pattern of instance ids: an id, or the beginning of ids with `*` after it.
    pub fn of_instances(text: &str) -> Result<Self, Malformed> {
        const RULE: Malformed = Malformed(
            "must be an instance id such as main, without instances/ before it, or the beginning of ids \
             such as pool-*",
        );
        let pattern = Self::new(text)?;
        let possible = match &pattern {
            Self::Exact(id) => id.parse::<InstanceId>().is_ok(),
            // Letters that no id has would make a rule that gives nothing.
            Self::Prefix(begin) => {
                begin.len() < INSTANCE_ID_BYTES_MAX + 1
                    && begin.bytes().next().is_none_or(|first| first.is_ascii_lowercase())
                    && begin
                        .bytes()
                        .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            }
        };
        if possible { Ok(pattern) } else { Err(RULE) }
    }

    fn new(text: &str) -> Result<Self, Malformed> {
        let (words, is_prefix) =
            text.strip_suffix('*').map_or((text, false), |begin| (begin, true));
        if words.contains('*') {
            return Err(Malformed("may have one * and only at its end"));
        }
        match (words, is_prefix) {
            ("", false) => Err(Malformed("must not be empty; * means all")),
            (words, false) => Ok(Self::Exact(words.into())),
            (words, true) => Ok(Self::Prefix(words.into())),
        }
    }

    fn matches(&self, name: &str) -> bool {
        match self {
            Self::Exact(exact) => **exact == *name,
            Self::Prefix(begin) => name.starts_with(&**begin),
        }
    }
}

/// A rule: these principals have these roles for these instances.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Who.
    pub principals: Vec<Pattern>,
    /// For which instances, whether they exist or not.
    pub instances: Vec<Pattern>,
    /// What they are to them.
    pub roles: Roles,
}

impl Rule {
    /// Whether it is about this principal. `anonymous` must be named: a pattern that many principals
    /// match is written for those who have proved who they are.
    fn is_for(&self, principal: &Principal) -> bool {
        let named_only = principal.is_anonymous();
        let names = |pattern: &Pattern| matches!(pattern, Pattern::Exact(_));
        let mut patterns = self.principals.iter().filter(|pattern| !named_only || names(pattern));
        patterns.any(|pattern| pattern.matches(principal.as_str()))
    }
}

/// Who may do what. What no rule gives nobody has.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Policy {
    rules: Vec<Rule>,
    knows_anonymous: bool,
}

impl Policy {
    /// A policy of these rules. Their order does not matter: none takes anything away.
    pub fn new(rules: Vec<Rule>) -> Self {
        let knows_anonymous = rules.iter().any(|rule| rule.is_for(&Principal::anonymous()));
        Self { rules, knows_anonymous }
    }

    /// What the principal is to this instance.
    pub fn roles(&self, principal: &Principal, instance: &InstanceId) -> Roles {
        let here = |rule: &&Rule| rule.instances.iter().any(|it| it.matches(instance.as_str()));
        // The instance first: of the two it is the cheaper to compare.
        let rules = self.rules.iter().filter(here).filter(|rule| rule.is_for(principal));
        rules.fold(Roles::NONE, |roles, rule| roles.and(rule.roles))
    }

    /// What the principal is to some instance or other.
    pub fn anywhere(&self, principal: &Principal) -> Roles {
        let rules = self.rules.iter().filter(|rule| rule.is_for(principal));
        rules.fold(Roles::NONE, |roles, rule| roles.and(rule.roles))
    }

    /// Whether the principal is somebody: everyone who has proved who they are is, and `anonymous` if a
    /// rule names it.
    pub fn knows(&self, principal: &Principal) -> bool {
        self.knows_anonymous || !principal.is_anonymous()
    }
}

/// The instances that a call may concern. Whatever spans instances asks for one.
#[derive(Debug, Clone)]
pub enum Scope {
    /// All there are.
    All,
    /// Those for which somebody has a role.
    Where {
        /// By this policy.
        policy: Arc<Policy>,
        /// Who.
        principal: Principal,
        /// Which role.
        role: Role,
    },
}

impl Scope {
    /// Whether the call may concern this instance.
    pub fn holds(&self, instance: &InstanceId) -> bool {
        match self {
            Self::All => true,
            Self::Where { policy, principal, role } => policy.roles(principal, instance).has(*role),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(principals: &[&str], instances: &[&str], role: Role) -> Rule {
        let principals = principals.iter().map(|it| Pattern::of_principals(it).unwrap()).collect();
        let instances = instances.iter().map(|it| Pattern::of_instances(it).unwrap()).collect();
        Rule { principals, instances, roles: role.into() }
    }

    fn who(name: &str) -> Principal {
        Principal::new(name)
    }

    fn id(id: &str) -> InstanceId {
        id.parse().unwrap()
    }

    #[test]
    fn a_pattern_is_exact_or_a_beginning() {
        for (pattern, name, matches) in [
            ("alice", "alice", true),
            ("alice", "alice2", false),
            ("alice", "Alice", false),
            ("spiffe://x/ns/prod/*", "spiffe://x/ns/prod/sa/w", true),
            ("spiffe://x/ns/prod/*", "spiffe://x/ns/prod", false),
            ("spiffe://x/ns/prod/*", "spiffe://x/ns/production/sa/w", false),
            ("*", "whoever", true),
        ] {
            let pattern = Pattern::of_principals(pattern).unwrap();
            assert_eq!(pattern.matches(name), matches, "{pattern:?} {name}");
        }
        for bad in ["", "**", "*a", "a*b", "a\n", &"x".repeat(257)] {
            assert!(Pattern::of_principals(bad).is_err(), "{bad}");
        }
        let longest = format!("a{}*", "b".repeat(62));
        for good in ["main", "pool-*", "*", "a-*", longest.as_str()] {
            assert!(Pattern::of_instances(good).is_ok(), "{good}");
        }
        for bad in ["instances/main", "Main", "pool_*", "-*", "1*", "a-", "*-a"] {
            assert!(Pattern::of_instances(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_no_rule_gives_nobody_has() {
        let policy = Policy::new(vec![
            rule(&["alice", "ops-*"], &["main", "pool-*"], Role::Use),
            rule(&["ops-*"], &["*"], Role::Operate),
        ]);
        let roles = |principal, instance| policy.roles(&who(principal), &id(instance));
        assert_eq!(roles("alice", "main"), Role::Use.into());
        assert_eq!(roles("alice", "pool-7"), Role::Use.into());
        assert_eq!(roles("alice", "other"), Roles::NONE);
        assert_eq!(roles("bob", "main"), Roles::NONE);
        assert_eq!(roles("ops-1", "other"), Role::Operate.into());
        assert_eq!(roles("ops-1", "main"), [Role::Operate, Role::Use].into_iter().collect());
        assert_eq!(policy.anywhere(&who("alice")), Role::Use.into());
        assert_eq!(policy.anywhere(&who("bob")), Roles::NONE);
        assert_eq!(Policy::default().anywhere(&who("alice")), Roles::NONE);
    }

    #[test]
    fn anonymous_must_be_named() {
        let anonymous = Principal::anonymous();
        for (principals, known) in
            [(&["*"][..], false), (&["anonymous*"], false), (&["a", "anonymous"], true)]
        {
            let policy = Policy::new(vec![rule(principals, &["*"], Role::Observe)]);
            assert_eq!(policy.knows(&anonymous), known, "{principals:?}");
            assert_eq!(policy.anywhere(&anonymous).has(Role::Observe), known, "{principals:?}");
            assert_eq!(policy.roles(&anonymous, &id("main")).has(Role::Observe), known);
            assert!(policy.knows(&who("bob")), "who has a name is somebody");
        }
    }

    #[test]
    fn a_scope_holds_what_a_role_is_given_for() {
        let policy = Arc::new(Policy::new(vec![rule(&["alice"], &["a*"], Role::Operate)]));
        let scope = |role| Scope::Where { policy: policy.clone(), principal: who("alice"), role };
        assert!(scope(Role::Observe).holds(&id("a1")), "operate includes observe");
        assert!(!scope(Role::Observe).holds(&id("b1")));
        assert!(!scope(Role::Use).holds(&id("a1")));
        assert!(Scope::All.holds(&id("b1")));
    }
}
