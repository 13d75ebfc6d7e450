// SPDX-License-Identifier: GPL-2.0
//! Why a command is refused, in the words of this library.
//!
//! The kernel says EINVAL for most things; what tells them apart is its text.

use crate::kernel::Error;
use crate::model::{Command, Errno};

/// An error of this command.
pub(super) fn refused(command: &Command, errno: Errno, message: &str) -> Error {
    Error::Refused {
        command: command.name(),
        errno,
        message: Some(message.to_owned()),
    }
}

pub(super) fn no_connection(command: &Command) -> Error {
    refused(command, Errno::ESRCH, "token: there is no such connection")
}

pub(super) fn no_subflow(command: &Command) -> Error {
    refused(command, Errno::ESRCH, "subflow: there is no such subflow")
}

pub(super) fn fell_back(command: &Command) -> Error {
    let text = "the connection fell back to TCP";
    refused(command, Errno::EOPNOTSUPP, text)
}

pub(super) fn half_closed(command: &Command) -> Error {
    let text = "one of the hosts has closed its direction: this kernel opens no subflow then";
    refused(command, Errno::EOPNOTSUPP, text)
}

/// Whether an entry of the list of local addresses is in the way.
pub(super) fn is_mismatch(error: &Error) -> bool {
    says(error, "did not match address and id")
}

/// Whether the list has no entry with this id.
pub(super) fn is_unknown_id(error: &Error) -> bool {
    says(error, "not found")
}

/// Whether there is no connection with this token.
pub(super) fn is_unknown_token(error: &Error) -> bool {
    says(error, "invalid token")
}

/// Whether the connection has another path manager.
pub(super) fn is_other_path_manager(error: &Error) -> bool {
    says(error, "PM not selected")
}

fn says(error: &Error, words: &str) -> bool {
    matches!(error, Error::Refused { errno: Errno::EINVAL, message: Some(text), .. }
        if text.contains(words))
}

/// What the kernel's refusal of `command` means.
pub(super) fn explain(command: &Command, error: Error) -> Error {
    if is_unknown_token(&error) {
        return no_connection(command);
    }
    if is_other_path_manager(&error) {
        let text = "token: the connection has another path manager";
        return refused(command, Errno::EPERM, text);
    }
    let Some(errno) = error.errno() else {
        return error;
    };
    let text = match (command, errno) {
        (Command::SubflowCreate(..), Errno::EADDRNOTAVAIL) => {
            "local-address: this host has no such address"
        }
        (Command::SubflowCreate(..), Errno::EADDRINUSE) => "local-port: it is in use",
        (Command::SubflowCreate(..), Errno::ENETUNREACH | Errno::EHOSTUNREACH) => {
            "remote-address: there is no route"
        }
        (Command::SubflowDestroy(..) | Command::SubflowSet(..), Errno::ESRCH) => {
            return no_subflow(command);
        }
        (Command::SubflowSet(..), Errno::EINVAL) => {
            let text = "subflow: it has not joined";
            return refused(command, Errno::ENOTCONN, text);
        }
        _ => return error,
    };
    refused(command, errno, text)
}
