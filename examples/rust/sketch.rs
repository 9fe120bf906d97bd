// Follows one stream of huahuo over plain HTTP, with the standard library only: docs/client-in-any-language.md.
// It reads HUAHUO_URL, HUAHUO_TOKEN, HUAHUO_STREAM and HUAHUO_CURSOR, and prints the seq of each event.
use std::io::{BufRead, BufReader, Error, ErrorKind, Read, Result, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant, SystemTime};
use std::{env, fs, process, thread};

const SILENCE: Duration = Duration::from_secs(60); // rule 7: two heartbeats

struct Place {
    id: String, // <log>:<seq>, "" before the first event
    seq: u64,
}

fn setting(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| {
        eprintln!("set {name}");
        process::exit(2)
    })
}

fn fault(text: &str) -> Error {
    Error::new(ErrorKind::InvalidData, text.to_string())
}

/// The number behind `"name":` in a JSON object. A real client has a parser.
fn number(json: &str, name: &str) -> Option<u64> {
    let rest = json.split_once(&format!("\"{name}\":"))?.1;
    rest.chars().take_while(char::is_ascii_digit).collect::<String>().parse().ok()
}

/// The body of an answer with `Transfer-Encoding: chunked`, as one stream of bytes.
struct Chunks<R> {
    inner: R,
    left: usize,
}

impl<R: BufRead> Read for Chunks<R> {
    fn read(&mut self, into: &mut [u8]) -> Result<usize> {
        while self.left == 0 {
            let mut line = String::new();
            if self.inner.read_line(&mut line)? == 0 {
                return Ok(0);
            }
            if !line.trim().is_empty() {
                self.left = usize::from_str_radix(line.trim(), 16).map_err(|_| fault("no chunk"))?;
                if self.left == 0 {
                    return Ok(0);
                }
            }
        }
        let most = into.len().min(self.left);
        let count = self.inner.read(&mut into[..most])?;
        self.left -= count;
        Ok(count)
    }
}

/// One event: print it, then store the cursor (rule 2).
fn process(place: &mut Place, seq: u64, id: &str, cursor: &str) -> Result<()> {
    if seq <= place.seq {
        return Ok(()); // rule 4: a repeat
    }
    if seq != place.seq + 1 {
        return Err(fault("an event is missing")); // come back with the cursor
    }
    println!("{seq}");
    std::io::stdout().flush()?;
    moved(place, seq, id, cursor)
}

fn moved(place: &mut Place, seq: u64, id: &str, cursor: &str) -> Result<()> {
    *place = Place { id: id.to_string(), seq };
    fs::write(format!("{cursor}.new"), id)?;
    fs::rename(format!("{cursor}.new"), cursor) // in one step, so that a crash leaves a whole one
}

/// One connection, until it ends. Err: why it did. Ok(seconds): when the server wants us back.
fn follow(place: &mut Place, cursor: &str) -> Result<f64> {
    let url = setting("HUAHUO_URL");
    let host = url.trim_start_matches("http://").trim_end_matches('/').to_string();
    let mut socket = TcpStream::connect(&host)?;
    socket.set_read_timeout(Some(SILENCE))?;
    let after = if place.id.is_empty() { "start" } else { &place.id }; // rule 3
    let (stream, token) = (setting("HUAHUO_STREAM"), setting("HUAHUO_TOKEN"));
    write!(
        socket,
        "GET /streams/{stream}?after={after} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n\
         Accept: text/event-stream\r\n\r\n"
    )?;
    let mut answer = BufReader::new(socket);
    let mut line = String::new();
    answer.read_line(&mut line)?;
    let status: u16 = line.split(' ').nth(1).and_then(|text| text.parse().ok()).unwrap_or(0);
    while line.trim() != "" || line.is_empty() {
        line.clear();
        if answer.read_line(&mut line)? == 0 {
            return Err(fault("no answer"));
        }
    }
    if status == 401 || status == 403 {
        eprintln!("refused: {status}"); // rule 9
        process::exit(1);
    }
    if status != 200 {
        return Err(fault("not now"));
    }
    let (mut name, mut id, mut data, mut retry) = (String::new(), String::new(), String::new(), 0.0);
    for line in BufReader::new(Chunks { inner: answer, left: 0 }).lines() {
        let line = line?;
        match line.split_once(": ") {
            Some(("id", text)) => id = text.to_string(),
            Some(("event", text)) => name = text.to_string(),
            Some(("data", text)) => data = text.to_string(),
            Some(("retry", text)) => retry = text.parse::<f64>().unwrap_or(0.0) / 1000.0,
            _ if !line.is_empty() => (), // rule 6, and comments
            _ => {
                let said = number(&id.rsplit(':').next().map(|n| format!("\"id\":{n}")).unwrap_or_default(), "id");
                match name.as_str() {
                    "" if !data.is_empty() => process(place, said.unwrap_or(0), &id, cursor)?,
                    "reset" | "gap" | "snapshot" => moved(place, said.unwrap_or(0), &id, cursor)?, // rule 5
                    "skipped" => moved(place, number(&data, "to").unwrap_or(place.seq), &id, cursor)?,
                    "unsubscribed" => process::exit(1),
                    _ => (),
                }
                (name, data) = (String::new(), String::new());
            }
        }
    }
    Ok(retry)
}

fn main() {
    let cursor = setting("HUAHUO_CURSOR");
    let id = fs::read_to_string(&cursor).unwrap_or_default();
    let seq = id.rsplit(':').next().and_then(|text| text.parse().ok()).unwrap_or(0);
    let (mut place, mut wait) = (Place { id, seq }, 0.5);
    loop {
        let began = Instant::now();
        let told = follow(&mut place, &cursor).unwrap_or(0.0);
        wait = if began.elapsed() > Duration::from_secs(5) { 0.5 } else { f64::min(wait * 2.0, 30.0) }; // rule 8
        let chance = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |now| now.subsec_nanos());
        let seconds = f64::max(wait, told) * (0.5 + f64::from(chance % 1000) / 1000.0);
        thread::sleep(Duration::from_secs_f64(seconds));
    }
}
