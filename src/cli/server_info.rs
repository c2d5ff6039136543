//! `jet-session server-info`: what the server is, and its limits.

use prost_reflect::ReflectMessage;

use crate::proto::api::{GetServerInfoRequest, GetServerInfoResponse};

use super::connect::{DECIDED, Options};
use super::failure::Failure;
use super::json;
use super::output::{Output, View};

/// Asks the server and shows the answer.
pub(super) async fn run(options: &Options, out: &mut Output<'_>) -> Result<(), Failure> {
    let server = options.connect(DECIDED).await?;
    let request = server.request(GetServerInfoRequest {});
    let answer = server.answer(server.instances().get_server_info(request)).await?;
    let view = View::properties(properties(&answer));
    out.answer("GetServerInfoResponse", &answer, view)
}

fn properties(info: &GetServerInfoResponse) -> Vec<(String, String)> {
    let mut rows = vec![
        ("version".to_owned(), info.version.clone()),
        ("commit".to_owned(), info.commit.clone()),
        ("log format".to_owned(), info.log_format.to_string()),
    ];
    if let Some(limits) = &info.limits {
        // All of them under their own names, so that a new limit is shown without a change here.
        let limits = json::fields("Limits", limits);
        for field in limits.descriptor().fields() {
            let value = limits.get_field(&field);
            let text = match (value.as_i32(), value.as_message()) {
                (Some(number), _) => number.to_string(),
                (None, Some(duration)) => match duration.transcode_to::<prost_types::Duration>() {
                    Ok(duration) => duration.to_string(),
                    Err(_) => continue,
                },
                (None, None) => continue,
            };
            rows.push((field.name().replace('_', " "), text));
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use crate::proto::api::Limits;

    use super::*;

    #[test]
    fn every_limit_is_shown() {
        let info = GetServerInfoResponse {
            version: "0.1.0".to_owned(),
            commit: "abc".to_owned(),
            log_format: 1,
            limits: Some(Limits {
                max_instances: 1_024,
                max_lease_ttl: Some(prost_types::Duration { seconds: 86_400, nanos: 0 }),
                ..Limits::default()
            }),
        };
        let rows = properties(&info);
        let find = |name: &str| rows.iter().find(|(label, _)| label == name);
        assert_eq!(find("max instances").unwrap().1, "1024");
        assert_eq!(find("max lease ttl").unwrap().1, "86400s");
        assert_eq!(rows.len(), 3 + 30);
    }
}
