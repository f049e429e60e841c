//! `EnrolService`: how a server becomes a host. The only service that needs no certificate.

use super::control::certificate_issued;
use super::{Context, blocking, failure, unchecked};
use crate::authorize::{Object, Verb};
use crate::catalog::{Catalog, Host, Token};
use crate::pki;
use lifeboat_format::FormatError;
use lifeboat_format::envelope::Recipient;
use lifeboat_format::id::{Digest, HostId};
use lifeboat_format::journal::event::{HostEnrolled, HostState};
use lifeboat_format::journal::{Event, Principal};
use lifeboat_format::sign::{Purpose, Signature, VerifyingKey};
use lifeboat_format::token::{HostKeys, TokenAuth};
use lifeboat_proto::convert::ConvertError;
use lifeboat_proto::convert::enrol::{Enrol, Enrolled, Wrapped};
use lifeboat_proto::status::{ErrorClass, Failure};
use lifeboat_proto::v1;
use rustls::pki_types::CertificateDer;
use std::sync::{Arc, PoisonError};
use tonic::{Request, Response, Status};

/// The handlers.
#[derive(Debug, Clone)]
pub struct Enrolment(pub Arc<Context>);

#[tonic::async_trait]
impl v1::enrol_service_server::EnrolService for Enrolment {
    async fn get_trust(&self, request: Request<v1::GetTrustRequest>) -> Result<Response<v1::GetTrustResponse>, Status> {
        self.0.allow(&request, Verb::SeeTrust, Object::Repository)?;
        Ok(Response::new(v1::GetTrustResponse { trust_file: self.0.trust.to_bytes().into() }))
    }

    async fn enrol(&self, request: Request<v1::EnrolRequest>) -> Result<Response<v1::EnrolResponse>, Status> {
        self.0.allow(&request, Verb::Enrol, Object::Repository)?;
        let enrol = Enrol::try_from(request.into_inner())?;
        let context = self.0.clone();
        let answer = move || {
            let (name, token) = (enrol.host_name.as_str(), enrol.token_number);
            context.enrol(&enrol).inspect_err(|failure| context.refuse_enrolment(name, token, failure))
        };
        let enrolled = blocking(answer).await?;
        Ok(Response::new(enrolled.into()))
    }
}

/// One answer for a token that does not exist, is spent, or is wrong: who guesses learns nothing.
fn no_token() -> Failure {
    let failure = Failure::new(ErrorClass::Refused, "this token is wrong, spent or has expired");
    failure.hint("make a new one on the coordinator: `lifeboat token create`")
}

impl Context {
    /// Checks the token, then the host's keys under it, and makes a host of them (INV-50). The same keys with the same
    /// token get the same answer again.
    fn enrol(&self, enrol: &Enrol) -> Result<Enrolled, Failure> {
        let wrong =
            |field| move |error: FormatError| Failure::from(ConvertError::new(field, format!("is wrong: {error}")));
        let signing_key = VerifyingKey::from_bytes(&enrol.signing_key).map_err(wrong("signing_key"))?;
        let recipient: Recipient = enrol.box_recipient.parse().map_err(wrong("box_recipient"))?;
        // Numbers are taken and recorded by one at a time.
        let _facts = self.facts.lock().unwrap_or_else(PoisonError::into_inner);
        let token = self.catalog(|catalog| catalog.token(enrol.token_number).cloned()).ok_or_else(no_token)?;
        let holds = self.clock.now_ns() < token.record.terms.expires_ns;
        if !holds || !token.record.admits(&TokenAuth::from_bytes(enrol.auth)) {
            return Err(no_token());
        }
        let keys = HostKeys {
            host_name: enrol.host_name.as_str(),
            signing_key: &signing_key,
            box_recipient: &recipient,
            csr_der: &enrol.csr_der,
        };
        let mac_key = token.record.open_mac_key(&self.vault.restore).map_err(|_| no_token())?;
        mac_key.check(&keys, &enrol.keys_mac).map_err(|_| no_token())?;
        let signature = Signature::from_bytes(enrol.signature);
        signing_key.verify(Purpose::Enrolment, &enrol.keys_mac, &signature).map_err(|_| no_token())?;
        match self.enrolled_before(&token, enrol, &signing_key) {
            Some((host, row)) => self.answer_again(host, &row, &token, enrol),
            None => self.enrol_new(&token, enrol, signing_key, recipient),
        }
    }

    /// The host that these keys became with this token.
    fn enrolled_before(&self, token: &Token, enrol: &Enrol, key: &VerifyingKey) -> Option<(HostId, Host)> {
        self.catalog(|catalog| {
            let hosts = token.used_by.iter().filter_map(|host| Some((*host, catalog.host(*host)?)));
            let mut same = hosts
                .filter(|(_, row)| row.enrolled.signing_key == *key && row.enrolled.name == enrol.host_name.as_str());
            same.next().map(|(host, row)| (host, row.clone()))
        })
    }

    fn answer_again(&self, host: HostId, row: &Host, token: &Token, enrol: &Enrol) -> Result<Enrolled, Failure> {
        let certificate = self.issue(host, enrol)?;
        if row.enrolled.tls_key != tls_key(&certificate)? {
            return Err(no_token());
        }
        let event = certificate_issued(host, &certificate)?;
        self.record(Principal::Token(enrol.token_number), "enrol", enrol.host_name.as_str(), event)?;
        self.enrolled(host, &certificate, token)
    }

    fn enrol_new(
        &self,
        token: &Token,
        enrol: &Enrol,
        signing_key: VerifyingKey,
        box_recipient: Recipient,
    ) -> Result<Enrolled, Failure> {
        let terms = &token.record.terms;
        let name = enrol.host_name.as_str();
        if token.used_by.len() >= terms.uses as usize {
            return Err(no_token());
        }
        if !terms.name_pattern.is_empty() && !matches_glob(&terms.name_pattern, name) {
            let problem = format!("this token is for hosts called {}, not for {name}", terms.name_pattern);
            return Err(Failure::new(ErrorClass::Refused, problem));
        }
        let keys = (&signing_key, &box_recipient);
        let (host, is_new) = self.catalog(|catalog| place_of(catalog, token, name, keys))?;
        let certificate = self.issue(host, enrol)?;
        let event = Event::HostEnrolled(HostEnrolled {
            host,
            name: name.to_owned(),
            site: terms.site.clone(),
            group: terms.group.clone(),
            signing_key,
            box_recipient,
            tls_key: tls_key(&certificate)?,
            token: enrol.token_number,
        });
        let by = Principal::Token(enrol.token_number);
        let acts = [event, certificate_issued(host, &certificate)?].map(|event| self.act(by, "enrol", name, event));
        self.coordinator.record(acts.to_vec()).map_err(|error| failure::of_fact(&error))?;
        if is_new {
            tracing::info!(number = %host, host = name, "host enrolled");
        } else {
            // Who is connected as this host has a certificate that is no longer valid.
            self.dispatch.remove_connection(host);
            tracing::warn!(number = %host, host = name, token = enrol.token_number, "host enrolled again; its former certificates are no longer valid");
        }
        self.enrolled(host, &certificate, token)
    }

    fn issue(&self, host: HostId, enrol: &Enrol) -> Result<CertificateDer<'static>, Failure> {
        pki::issue_host(&self.vault.issuing, host, &enrol.csr_der, self.now()).map_err(|error| failure::of_pki(&error))
    }

    fn enrolled(&self, host: HostId, certificate: &CertificateDer<'_>, token: &Token) -> Result<Enrolled, Failure> {
        let secrets = token.record.secrets.iter().map(|secret| Wrapped {
            scope: secret.scope,
            first: secret.first,
            wrapped: secret.wrapped.clone().into(),
            secret_hash: *secret.secret_hash.as_bytes(),
        });
        let head = self.coordinator.head().ok_or_else(no_token)?;
        Ok(Enrolled {
            host,
            certificate_der: certificate.to_vec().into(),
            secrets: secrets.collect(),
            head: unchecked(&head),
        })
    }
}

/// The number that a server gets which enrols under this name with these keys, and whether it is a new one. A name that is
/// taken is given to its own host, which shows its keys, or by the operator's word to the server that replaces it.
fn place_of(
    catalog: &Catalog,
    token: &Token,
    name: &str,
    keys: (&VerifyingKey, &Recipient),
) -> Result<(HostId, bool), Failure> {
    if let Some(host) = token.replaces {
        return Ok((host, false));
    }
    let Some((host, row)) = catalog.hosts().filter(|(_, row)| row.enrolled.name == name).last() else {
        if catalog.hosts().any(|(number, _)| number.to_string() == name) {
            let failure = Failure::new(ErrorClass::Refused, format!("{name} is the number of a host"));
            return Err(failure.hint("enrol under another name: `lifeboat-agent enrol --name NAME`"));
        }
        return Ok((catalog.next_host(), true));
    };
    match (&row.enrolled.signing_key, &row.enrolled.box_recipient) == keys {
        true if row.state == HostState::Active => Ok((host, false)),
        true => Err(Failure::new(ErrorClass::Refused, format!("host {name} was retired or revoked"))),
        false => {
            let failure =
                Failure::new(ErrorClass::Refused, format!("a host named {name} already exists, with other keys"));
            Err(failure.hint(format!(
                "if this server takes its place, create a token for that on the coordinator: `lifeboat token create \
                 --replace {name}`; if it is another server, enrol it under another name: `lifeboat-agent enrol --name NAME`"
            )))
        }
    }
}

fn tls_key(certificate: &CertificateDer<'_>) -> Result<Digest, Failure> {
    pki::public_key(certificate).map(|key| Digest::of(&key)).map_err(|error| failure::of_pki(&error))
}

/// Whether a name matches a pattern in which `*` stands for any letters and `?` for one.
pub fn matches_glob(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (pattern.as_bytes(), name.as_bytes());
    let (mut at, mut read, mut star) = (0, 0, None);
    while read < name.len() {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at, read));
                at += 1;
            }
            Some(letter) if *letter == b'?' || *letter == name[read] => (at, read) = (at + 1, read + 1),
            _ => match &mut star {
                None => return false,
                Some((star_at, taken)) => {
                    *taken += 1;
                    (at, read) = (*star_at + 1, *taken);
                }
            },
        }
    }
    pattern[at..].iter().all(|letter| *letter == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_matches_the_whole_name() {
        for (pattern, name, matches) in [
            ("web-*", "web-1", true),
            ("web-*", "db-web-1", false),
            ("*", "", true),
            ("*.berlin", "a.b.berlin", true),
            ("w?b", "web", true),
            ("w?b", "wb", false),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-b-b-d", false),
            ("web", "web1", false),
        ] {
            assert_eq!(matches_glob(pattern, name), matches, "{pattern} {name}");
        }
    }
}
