//! The control socket: accepts, checks who asks, reads one request, streams the answer.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::OwnedWriteHalf;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;

use super::Agent;
use super::protocol::{Envelope, Failure, FailureKind, MAX_LINE, Progress, Reply, Request, VERSION};

/// Progress lines that a slow client has not read yet; more are dropped, since the next one says more.
const PROGRESS_QUEUE: usize = 16;

/// Opens the socket, 0600. An old one is replaced: whoever holds the home's lock owns its name.
pub fn listen(path: &Path) -> io::Result<UnixListener> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Serves the socket until the agent ends.
pub async fn serve(agent: Arc<Agent>, listener: UnixListener) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::spawn(converse(agent.clone(), stream));
            }
            Err(error) => {
                // Out of descriptors, at worst: the next second may be better.
                tracing::warn!(%error, "cannot accept a control connection");
                tokio::time::sleep(std::time::Duration::from_secs(1)).await;
            }
        }
    }
}

async fn converse(agent: Arc<Agent>, stream: UnixStream) {
    let own = nix::unistd::geteuid().as_raw();
    let allowed = stream.peer_cred().is_ok_and(|peer| peer.uid() == own || peer.uid() == 0);
    let (read, mut write) = stream.into_split();
    if !allowed {
        let failure = Failure::new(FailureKind::Failed, "this region belongs to another user");
        let _ = send(&mut write, &Reply::Failed(failure)).await;
        return;
    }
    let mut line = String::new();
    let mut lines = BufReader::new(read.take(MAX_LINE));
    if lines.read_line(&mut line).await.is_err() {
        return;
    }
    let request = match parse(&line) {
        Ok(request) => request,
        Err(failure) => {
            let _ = send(&mut write, &Reply::Failed(failure)).await;
            return;
        }
    };
    let ends = request == Request::Shutdown {};
    answer(&agent, request, &mut write).await;
    if ends {
        agent.ending.notify_one();
    }
}

fn parse(line: &str) -> Result<Request, Failure> {
    let invalid = |message: String| Failure::new(FailureKind::Invalid, message);
    let version = serde_json::from_str::<serde_json::Value>(line)
        .map_err(|error| invalid(format!("not a request: {error}")))?
        .get("version")
        .and_then(serde_json::Value::as_u64);
    if version != Some(VERSION.into()) {
        return Err(invalid(format!(
            "the agent speaks control protocol {VERSION}, not {version:?}: stop it with the zorya that started it, then start \
             it again"
        )));
    }
    let envelope: Envelope =
        serde_json::from_str(line).map_err(|error| invalid(format!("not a request: {error}")))?;
    Ok(envelope.request)
}

/// Does what is asked while telling how it goes. A client that goes away does not stop it.
async fn answer(agent: &Arc<Agent>, request: Request, write: &mut OwnedWriteHalf) {
    let (tell, mut told) = mpsc::channel::<Progress>(PROGRESS_QUEUE);
    let working = agent.perform(request, tell);
    let telling = async {
        let mut listening = true;
        while let Some(progress) = told.recv().await {
            if listening {
                listening = send(write, &Reply::Progress(progress)).await.is_ok();
            }
        }
    };
    let (outcome, ()) = tokio::join!(working, telling);
    let reply = match outcome {
        Ok(value) => Reply::Done(value),
        Err(failure) => Reply::Failed(failure),
    };
    let _ = send(write, &reply).await;
}

async fn send(write: &mut OwnedWriteHalf, reply: &Reply) -> io::Result<()> {
    let mut line = serde_json::to_vec(reply)?;
    line.push(b'\n');
    write.write_all(&line).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_version_is_refused_before_its_content_is_read() {
        let failure = parse(r#"{"version":2,"request":{"do":"something new"}}"#).unwrap_err();
        assert!(failure.message.contains("control protocol 1"), "{failure}");
        assert_eq!(parse("nonsense").unwrap_err().kind, FailureKind::Invalid);
        assert_eq!(parse(r#"{"version":1,"request":{"do":"status"}}"#).unwrap(), Request::Status {});
    }
}
