//! Examples that show what goes over a connection.

use std::io::{Read, Write};

use fanfare_core::protocol::http::{ResponsePart, ResponseReader};

use super::{player::Player, process::difference};
use crate::support::websocket::{Incoming, WebSocketClient};

/// Runs an example of a WebSocket.
pub(super) fn play_socket(player: &mut Player, lines: &[String], protocols: &[&str]) -> Result<(), String> {
    let (target, lines) = match lines.split_first() {
        Some((first, rest)) if first.starts_with("GET ") => (&first["GET ".len()..], rest),
        _ => ("/ws", lines),
    };
    let target = player.said(target);
    let mut socket = WebSocketClient::open_on(player.hub().connect(), &target, protocols);
    for line in lines {
        match line.split_at_checked(2) {
            Some(("> ", text)) => socket.send(&player.said(text)),
            Some(("$ ", command)) => player.run_meanwhile(command)?,
            Some(("< ", shown)) => {
                let came = describe(socket.next());
                if !player.is_shown(shown, &came) {
                    return Err(difference(&[shown.to_owned()], &[came], "another message comes"));
                }
            }
            _ if line.is_empty() => {}
            _ => return Err(format!("a line begins with `> `, `< ` or `$ `, not so: {line:?}")),
        }
    }
    Ok(())
}

/// A received message, as a page shows it.
fn describe(incoming: Incoming) -> String {
    match incoming {
        Incoming::Text(text) => text,
        Incoming::Binary(bytes) => format!("binary {}", data_encoding::HEXLOWER.encode(&bytes)),
        Incoming::Pong(bytes) => format!("pong {}", String::from_utf8_lossy(&bytes)),
        Incoming::Close(code, reason) => {
            let code = code.map_or_else(String::new, |code| code.to_string());
            format!("close {code} {reason}").trim_end().to_owned()
        }
        Incoming::End => "end".to_owned(),
    }
}

/// Runs an example of a request and its response.
pub(super) fn play_http(player: &mut Player, lines: &[String]) -> Result<(), String> {
    let side = |mark: char| -> Vec<String> {
        let lines = lines.iter().filter_map(|line| line.strip_prefix(mark));
        lines.map(|line| line.strip_prefix(' ').unwrap_or(line).to_owned()).collect()
    };
    if let Some(line) = lines.iter().find(|line| !line.starts_with(['>', '<'])) {
        return Err(format!("a line begins with `>` or `<`, not so: {line:?}"));
    }
    let request: Vec<String> = side('>').iter().map(|line| player.said(line)).collect();
    let (shown_head, shown_body) = split_message(&side('<'));
    let mut socket = player.hub().connect();
    socket.write_all(&encode(&request)).map_err(|error| format!("the hub does not read: {error}"))?;
    let response = read_response(&mut socket, shown_body.len())?;
    check_head(player, &shown_head, &response.head)?;
    let body = if response.is_whole {
        &response.body[..]
    } else {
        &response.body[..shown_body.len().min(response.body.len())]
    };
    let shown_body = player.here(&shown_body);
    if shown_body.is_empty() || player.is_shown_lines(&shown_body, body) {
        return Ok(());
    }
    Err(difference(&shown_body, body, "another body comes"))
}

/// Head and body of a message whose lines these are.
fn split_message(lines: &[String]) -> (Vec<String>, Vec<String>) {
    let head: Vec<String> = lines.iter().take_while(|line| !line.is_empty()).cloned().collect();
    let body = lines.iter().skip(head.len() + 1).cloned().collect();
    (head, body)
}

/// The bytes of a request. Adds the length of the body, unless the page gives it.
fn encode(lines: &[String]) -> Vec<u8> {
    let (mut head, body) = split_message(lines);
    let body = body.join("\n");
    let has_length = head.iter().any(|line| {
        let name = line.split(':').next().unwrap_or_default();
        name.eq_ignore_ascii_case("Content-Length") || name.eq_ignore_ascii_case("Transfer-Encoding")
    });
    if !body.is_empty() && !has_length {
        head.push(format!("Content-Length: {}", body.len()));
    }
    format!("{}\r\n\r\n{body}", head.join("\r\n")).into_bytes()
}

/// The part of a response that has arrived.
struct Response {
    head: Vec<String>,
    body: Vec<String>,
    /// Whether it has ended.
    is_whole: bool,
}

/// Reads a response to its end, or until it has `count` lines of a body that may have none.
fn read_response(mut socket: impl Read, count: usize) -> Result<Response, String> {
    let (mut raw, mut reader, mut body, mut is_whole) = (Vec::new(), ResponseReader::new(), Vec::new(), false);
    let mut is_endless = false;
    loop {
        let mut buffer = [0; 4096];
        let read = socket.read(&mut buffer).map_err(|error| format!("the hub says no more: {error}"))?;
        raw.extend_from_slice(&buffer[..read]);
        let take = |part: ResponsePart<'_>| match part {
            ResponsePart::Head(_) => {}
            ResponsePart::Body(bytes) => body.extend_from_slice(bytes),
            ResponsePart::End => is_whole = true,
        };
        let fed = if read == 0 { reader.finish(take) } else { reader.receive(&buffer[..read], take).map(drop) };
        fed.map_err(|close| format!("not a response: {close}"))?;
        let end = raw.windows(4).position(|window| window == b"\r\n\r\n");
        let head = String::from_utf8_lossy(&raw[..end.unwrap_or(raw.len())]).into_owned();
        is_endless |= head.contains("text/event-stream");
        let lines = body.iter().filter(|byte| **byte == b'\n').count();
        if is_whole || read == 0 || end.is_some() && is_endless && count <= lines {
            let body = String::from_utf8_lossy(&body).lines().map(str::to_owned).collect();
            return Ok(Response { head: head.lines().map(str::to_owned).collect(), body, is_whole });
        }
    }
}

/// The status line as shown, and the shown fields among those that came.
fn check_head(player: &mut Player, shown: &[String], real: &[String]) -> Result<(), String> {
    for (index, line) in shown.iter().enumerate() {
        let candidates = if index == 0 { &real[..real.len().min(1)] } else { real };
        if !candidates.iter().any(|candidate| player.is_shown(line, candidate)) {
            return Err(difference(shown, real, &format!("no {line:?} in the head")));
        }
    }
    Ok(())
}
