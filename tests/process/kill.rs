//! Kill -9 under load: what was answered is there, and nothing else.

use std::time::Duration;

use crate::campaign::{Campaign, long, some_time};

#[tokio::test]
async fn what_was_answered_survives_kill_nine() {
    let cycles = if long() { 1_000 } else { 12 };
    let data = tempfile::tempdir().unwrap();
    let mut campaign = Campaign::begin(data.path()).await;
    for cycle in 0..cycles {
        // Some are hit while they start, and a few more of those than are needed.
        while campaign.random.percent(20) || cycle % 12 == 5 && campaign.random.percent(50) {
            let starting = campaign.spawn();
            some_time(&mut campaign.random, Duration::from_millis(40)).await;
            starting.kill().await;
        }
        let answers = match campaign.random.within(0..4) {
            0 => campaign.random.within(1..100),
            _ => campaign.random.within(100..3_000),
        };
        campaign.shared.expect_answers(answers);
        let mut work = campaign.start().await;
        campaign.enough(&mut work).await;
        some_time(&mut campaign.random, Duration::from_millis(2)).await;
        if cycle % 6 == 3 {
            campaign.terminate(work).await;
        } else {
            campaign.kill(work).await;
        }
        if cycle % 100 == 99 {
            campaign.say(&format!("{} cycles", cycle + 1));
        }
    }
    campaign.end().await;
}
