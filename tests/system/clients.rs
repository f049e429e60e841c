//! Ordinary gRPC clients: they ask for health, and list the services, in both forms that are about.

use crate::world::World;
use lifeboat_agent::host::{Host, Places};
use tokio_stream::once;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

/// The names of the services, asked for in one form of reflection.
macro_rules! services {
    ($form:ident, $channel:expr) => {{
        use tonic_reflection::pb::$form::server_reflection_client::ServerReflectionClient;
        use tonic_reflection::pb::$form::{
            ServerReflectionRequest, server_reflection_request::MessageRequest,
            server_reflection_response::MessageResponse,
        };
        let message_request = Some(MessageRequest::ListServices(String::new()));
        let request = ServerReflectionRequest { host: String::new(), message_request };
        let answers = ServerReflectionClient::new($channel).server_reflection_info(once(request)).await.unwrap();
        match answers.into_inner().message().await.unwrap().unwrap().message_response {
            Some(MessageResponse::ListServicesResponse(list)) => {
                list.service.into_iter().map(|service| service.name).collect::<Vec<_>>()
            }
            other => panic!("{other:?}"),
        }
    }};
}

#[test]
fn an_ordinary_client_asks_for_health_and_lists_the_services() {
    let world = World::new();
    let state = world.path("agent");
    let host = Host::open(&Places { state: state.clone(), config: state }).unwrap();
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let channel = host.dialer().unwrap().connect().await.unwrap();
        let health = HealthClient::new(channel.clone()).check(HealthCheckRequest::default()).await.unwrap();
        assert_eq!(health.into_inner().status, 1, "serving");
        for names in [services!(v1, channel.clone()), services!(v1alpha, channel.clone())] {
            for service in ["Enrol", "Backup", "Restore", "Control"] {
                assert!(names.contains(&format!("lifeboat.v1.{service}Service")), "{names:?}");
            }
        }
    });
}
