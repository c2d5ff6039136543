//! What is kept of a deleted instance, as an operator finds it.

use super::*;
use crate::store::conformance;

const FILE: &str = "instances/b.ofb.deleted/gone";

#[tokio::test]
async fn what_is_kept_of_a_deleted_instance_is_verified_and_passed_over_if_it_is_damaged() {
    let made = made(true).await;
    let store = LogStore::new(RealDisk, made.dir.path(), Work::Inline);
    store.load().await.unwrap();
    let record = InstanceRecord { uid: Uid::new("../of/b"), ..conformance::record("b") };
    let gone = conformance::gone(&record);
    store.create(&record).await.unwrap();
    store.delete(&record.id, Some(&gone)).await.unwrap();
    drop(store);
    let verdict = |checked: Vec<Checked>| {
        checked.into_iter().find(|file| file.path == Path::new(FILE)).unwrap().verdict
    };
    assert!(matches!(verdict(made.verified()), Verdict::Sound(_)));

    made.flip(FILE, 40);

    let checked = made.verified();
    assert_eq!(refused(&checked), Vec::<&Checked>::new());
    assert!(matches!(verdict(checked), Verdict::Spoilt(_)));
    repair_all(RealDisk, made.dir.path()).unwrap();
    let catalog = LogStore::new(RealDisk, made.dir.path(), Work::Inline).load().await.unwrap();
    assert_eq!((catalog.instances.len(), catalog.gone), (1, Vec::new()));
    assert!(!made.path("instances/b.ofb.deleted").exists());
}
