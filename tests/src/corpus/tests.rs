use std::collections::BTreeSet;

use super::cases;

#[test]
fn names_are_unique_and_in_kebab_case() {
    let mut names = BTreeSet::new();
    for case in cases() {
        let name = format!("{case:?}");
        let is_kebab = case.name.split('-').all(|word| {
            !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
        });
        assert!(is_kebab, "{name}");
        assert!(!case.why.is_empty() && !case.why.contains('\n'), "{name}");
        assert!(names.insert(name.clone()), "{name} twice");
    }
}
