//! `GET /api/v1/proof`: proves that this server knows its tokens, before a client sends one.
//!
//! Another program may listen at the address where a client expects steerd, and could relay the
//! client's nonce to the real server. So the proof covers the server's own address in the
//! connection: a client that has connected to another address rejects it.

use std::net::SocketAddr;

use axum::Extension;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::{Deserialize, Serialize};

use crate::admin::problem::Problem;
use crate::admin::{Sources, json};
use crate::config::Nonce;

/// The path of the proof.
pub(super) const PATH: &str = "/api/v1/proof";

/// The server's own address in a connection; none on a Unix socket.
#[derive(Clone, Copy, Debug)]
pub(super) struct Local(pub(super) Option<SocketAddr>);

/// The query.
#[derive(Deserialize)]
pub(super) struct ProofQuery {
    #[serde(default)]
    nonce: String,
}

#[derive(Serialize)]
struct Proof {
    address: SocketAddr,
    /// One for each token: the server does not know which of them the client has.
    proofs: Vec<String>,
}

pub(super) async fn proof(
    State(sources): State<Sources>,
    Extension(Local(address)): Extension<Local>,
    query: Result<Query<ProofQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    let bad = |rejection: QueryRejection| Problem::new(StatusCode::BAD_REQUEST, rejection.body_text());
    let Query(ProofQuery { nonce }) = query.map_err(bad)?;
    let nonce: Nonce = nonce.parse().map_err(|()| {
        Problem::new(
            StatusCode::BAD_REQUEST,
            "?nonce= must be 64 hexadecimal digits that the client has chosen at random",
        )
    })?;
    let Some(address) = address else {
        let detail = "a Unix socket has no address to prove, and needs no token";
        return Err(Problem::new(StatusCode::CONFLICT, detail));
    };
    let access = sources.access.borrow().clone();
    if access.tokens.is_empty() {
        let detail = "this server has no token: neither token_file nor a token under [admin.tokens] is set";
        return Err(Problem::new(StatusCode::CONFLICT, detail));
    }
    let proofs = access.tokens.iter().map(|token| token.secret.proof(&nonce, address)).collect();
    Ok(json(&Proof { address, proofs }))
}
