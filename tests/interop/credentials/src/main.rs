//! A second implementation of the verifiers that docs/credentials.md describes: one request a line on stdin, one answer
//! a line on stdout. It shares nothing with the first but that page.
//!
//! Words are separated by spaces, bytes are hex. Answers are `ok`, or `refused` and why.
//!
//!     show PRIVATE PUBLIC KEY SHOW CONTEXT                    ok NULLIFIER | refused WHY
//!     payment TICKETS KEY PAYMENT INFO DAY                    ok SERIAL,... | refused WHY
//!     identify PAYMENT INFO PAYMENT INFO                      ok apart | ok replay | ok double KEY | refused WHY
//!     bench-show ROUNDS, then as show                         ok NANOSECONDS (one verification)
//!     bench-payment ROUNDS, then as payment                   ok NANOSECONDS (one verification)

mod core;
mod ecash;
mod show;

use std::hint::black_box;
use std::io::{BufRead, Write};
use std::time::Instant;

use crate::core::{bytes, Answer};

fn number(word: &str) -> Result<usize, String> {
    word.parse().map_err(|_| format!("{word} is not a number"))
}

fn timed(rounds: &str, operation: impl Fn() -> Answer) -> Answer {
    let rounds = number(rounds)?.max(1);
    operation()?;
    let started = Instant::now();
    for _ in 0..rounds {
        black_box(operation()?);
    }
    Ok(format!("{}", started.elapsed().as_nanos() as usize / rounds))
}

fn answer(words: &[&str]) -> Answer {
    match words {
        ["show", private, public, key, show, context] => {
            let parameters = show::Parameters::new(number(private)?, number(public)?);
            let key = core::Key::read(&bytes(key)?)?;
            show::verify(&parameters, &key, &bytes(show)?, &bytes(context)?)
        }
        ["bench-show", rounds, private, public, key, show, context] => {
            let parameters = show::Parameters::new(number(private)?, number(public)?);
            let key = core::Key::read(&bytes(key)?)?;
            let (show, context) = (bytes(show)?, bytes(context)?);
            timed(rounds, || show::verify(&parameters, &key, &show, &context))
        }
        ["payment", tickets, key, payment, info, day] => {
            let parameters = ecash::Parameters::new(number(tickets)?);
            let key = core::Key::read(&bytes(key)?)?;
            ecash::verify(&parameters, &key, &bytes(payment)?, &bytes(info)?, number(day)? as u64)
        }
        ["bench-payment", rounds, tickets, key, payment, info, day] => {
            let parameters = ecash::Parameters::new(number(tickets)?);
            let key = core::Key::read(&bytes(key)?)?;
            let (payment, info, day) = (bytes(payment)?, bytes(info)?, number(day)? as u64);
            timed(rounds, || ecash::verify(&parameters, &key, &payment, &info, day))
        }
        ["identify", first, first_info, second, second_info] => {
            ecash::identify(&bytes(first)?, &bytes(first_info)?, &bytes(second)?, &bytes(second_info)?)
        }
        _ => Err("not a request".to_string()),
    }
}

fn main() {
    let stdin = std::io::stdin();
    let mut stdout = std::io::stdout();
    for line in stdin.lock().lines() {
        let line = line.expect("a line of text");
        let words: Vec<&str> = line.split_whitespace().collect();
        let said = match answer(&words) {
            Ok(text) => format!("ok {text}"),
            Err(why) => format!("refused {why}"),
        };
        writeln!(stdout, "{said}").and_then(|()| stdout.flush()).expect("somebody reads");
    }
}
