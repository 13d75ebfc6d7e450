// SPDX-License-Identifier: GPL-2.0
//! Events that keep coming put nothing off: an interface that always has more.

use std::io::Write;
use std::os::unix::net::UnixStream;

use super::*;
use crate::model::{Event, Token, What};

/// Has an event whenever it is asked, in portions of this many.
struct Flood(usize);

impl Interface for Flood {
    fn capabilities(&self) -> Capabilities {
        Capabilities::all("flood")
    }

    fn listen(&mut self, _: EventSet) -> Result<Vec<RawFd>, Error> {
        Ok(Vec::new())
    }

    fn receive(&mut self, inputs: &mut VecDeque<Input>) -> Result<bool, Error> {
        let event = Event {
            token: Token(1),
            server_side: false,
            what: What::Closed,
        };
        inputs.extend((0..self.0).map(|_| Input::Event(event)));
        Ok(true)
    }

    fn connections(&mut self) -> Result<Vec<Connection>, Error> {
        Ok(Vec::new())
    }

    fn connection(&mut self, _: Token) -> Result<Connection, Error> {
        Err(Error::NoAnswer("conn-get"))
    }

    fn command(&mut self, command: &Command) -> Result<Answer, Error> {
        Err(Error::NoAnswer(command.name()))
    }

    fn commands(&mut self, commands: &[Command]) -> Vec<Result<Answer, Error>> {
        commands.iter().map(|one| self.command(one)).collect()
    }

    fn statistics(&mut self) -> Result<Statistics, Error> {
        Err(Error::NoAnswer("stats-get"))
    }
}

/// A client in a flood that began some time ago.
fn flooded(portion: usize) -> Client {
    let mut client = Client::over(Box::new(Flood(portion))).unwrap();
    client.readable = true;
    for _ in 0..1000 {
        let input = client.wait(None).unwrap();
        assert!(matches!(input, Input::Event(_)));
    }
    client
}

/// How many inputs are told before another than an event is.
fn told_before(client: &mut Client, until: Option<Duration>) -> (u32, Input) {
    for told in 0..1000 {
        match client.wait(until).unwrap() {
            Input::Event(_) => {}
            other => return (told, other),
        }
    }
    panic!("nothing but events");
}

fn readable() -> (UnixStream, UnixStream) {
    let (mut writer, reader) = UnixStream::pair().unwrap();
    writer.write_all(&[1]).unwrap();
    (writer, reader)
}

const PORTIONS: [usize; 4] = [1, 63, 64, 1000];

#[test]
fn the_end_comes_in_a_flood() {
    for portion in PORTIONS {
        let mut client = flooded(portion);
        let (_writer, reader) = readable();
        client.stop_on(&reader).unwrap();
        let (told, input) = told_before(&mut client, None);
        assert_eq!(input, Input::Stop);
        assert!(told <= BATCH, "after {told} events");
    }
}

#[test]
fn what_the_program_waits_for_comes_in_a_flood() {
    for portion in PORTIONS {
        let mut client = flooded(portion);
        let (_writer, reader) = readable();
        client.wake_on(&reader).unwrap();
        let (told, input) = told_before(&mut client, None);
        assert_eq!(input, Input::Wake);
        assert!(told <= BATCH, "after {told} events");
        // Once: the program reads it now.
        assert!(matches!(client.wait(None).unwrap(), Input::Event(_)));
    }
}

#[test]
fn the_time_comes_in_a_flood() {
    for portion in PORTIONS {
        let mut client = flooded(portion);
        let now = client.now();
        let (told, input) = told_before(&mut client, Some(now));
        assert_eq!(input, Input::Time);
        assert!(told <= BATCH, "after {told} events");
    }
}

#[test]
fn the_time_comes_where_what_is_read_is_no_input() {
    let mut client = Client::over(Box::new(Flood(0))).unwrap();
    client.readable = true;
    let now = client.now();
    assert_eq!(client.wait(Some(now)).unwrap(), Input::Time);
}
