//! A file system that loses its power under load: what was answered is on the disk, and not in
//! memory only.

use std::time::Duration;

use crate::campaign::{Campaign, long, some_time, stopped};
use crate::disk::{Disk, LastWords};
use crate::not_checked;
use crate::operator::Operator;
use crate::server::now;

const INSTANCE_UNAVAILABLE: i32 = -1090;

#[tokio::test]
async fn what_was_answered_survives_power_loss() {
    let rounds = if long() { 100 } else { 5 };
    let disk = match Disk::ext4(256) {
        Ok(disk) => disk,
        Err(reason) => return not_checked("power loss on ext4", &reason),
    };
    let mut campaign = Campaign::begin(&disk.data()).await;
    let mut known = Vec::new();
    for round in 0..rounds {
        let answers = campaign.random.within(100..2_000);
        campaign.shared.expect_answers(answers);
        let mut work = campaign.start().await;
        let operator = Operator::of(work.server.address()).await;
        for session in &known {
            let jet_session::proto::api::Session { name, .. } = session;
            let instance = name.split("/sessions").next().expect("a name");
            operator.settled(instance).await;
            assert_eq!(operator.session(name).await, *session, "A YOUNG INSTANCE IS NOT KEPT");
        }
        campaign.enough(&mut work).await;
        // With files and directories that are as young as can be.
        let name = operator.create(&format!("round-{round}")).await;
        known.push(operator.begin_and_set(&name).await);
        some_time(&mut campaign.random, Duration::from_millis(2)).await;

        campaign.died = Some(now());
        let all = [LastWords::None, LastWords::None, LastWords::Journal, LastWords::All];
        let last = *campaign.random.one_of(&all);
        if let Err(reason) = disk.lose_power(last) {
            campaign.kill(work).await;
            return not_checked("power loss on ext4", &reason);
        }
        // Each client learns it with its next change at the latest.
        stopped(&mut work.clients).await;
        campaign.refused_for_good(INSTANCE_UNAVAILABLE);
        campaign.kill(work).await;
        disk.come_back();
        if campaign.random.percent(30) {
            let starting = campaign.spawn();
            some_time(&mut campaign.random, Duration::from_millis(40)).await;
            starting.kill().await;
        }
    }
    campaign.end().await;
}
