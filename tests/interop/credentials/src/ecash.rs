//! Compact e-cash: verifying a payment, and finding who paid twice.

use std::collections::HashSet;

use blstrs::{G1Projective, G2Projective, Scalar};
use ff::Field;

use crate::core::{
    challenge, framed, g1, g2, hash_to_g1, hash_to_scalar, of_g1, of_g2, sha512, signed, Answer, Key, Reader,
};

const DOMAIN: &[u8] = b"NYMTW-CREDENTIALS-V1 ecash";

pub struct Parameters {
    tickets: usize,
    gamma: G1Projective,
    delta: G1Projective,
    date: Scalar,
    index: Scalar,
    digest: [u8; 64],
}

impl Parameters {
    pub fn new(tickets: usize) -> Self {
        let gammas: Vec<G1Projective> = (0..4u8).map(|i| hash_to_g1(&[DOMAIN, b"gamma", &[i]])).collect();
        let delta = hash_to_g1(&[DOMAIN, b"delta"]);
        let mut parts = vec![DOMAIN.to_vec(), vec![tickets as u8], of_g1(&g1()), of_g2(&g2())];
        parts.extend(gammas.iter().map(of_g1));
        parts.push(of_g1(&delta));
        let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
        Parameters {
            tickets,
            gamma: gammas[1],
            delta,
            date: hash_to_scalar(&[DOMAIN, b"date"]),
            index: hash_to_scalar(&[DOMAIN, b"index"]),
            digest: sha512(&framed(&parts)),
        }
    }
}

struct Ticket {
    kappa: G2Projective,
    base: G1Projective,
    value: G1Projective,
    serial: G1Projective,
    tag: G1Projective,
    index: G1Projective,
}

struct Payment {
    kind: u8,
    kappa: G2Projective,
    base: G1Projective,
    value: G1Projective,
    kappa_date: G2Projective,
    base_date: G1Projective,
    value_date: G1Projective,
    seed: G1Projective,
    tickets: Vec<Ticket>,
    c: Scalar,
    responses: Vec<Scalar>,
}

impl Payment {
    fn read(data: &[u8]) -> Result<Self, String> {
        let mut reader = Reader::new(data, 0x25)?;
        let kind = reader.byte()? as u8;
        let count = reader.count(1, 255)?;
        let (kappa, base, value) = (reader.g2()?, reader.g1()?, reader.g1()?);
        let (kappa_date, base_date, value_date) = (reader.g2()?, reader.g1()?, reader.g1()?);
        let seed = reader.g1()?;
        let mut tickets = Vec::new();
        for _ in 0..count {
            tickets.push(Ticket {
                kappa: reader.g2()?,
                base: reader.g1()?,
                value: reader.g1()?,
                serial: reader.g1()?,
                tag: reader.g1()?,
                index: reader.g1()?,
            });
        }
        let c = reader.scalar()?;
        let responses = reader.scalars(6 + 5 * count)?;
        reader.end()?;
        Ok(Payment {
            kind, kappa, base, value, kappa_date, base_date, value_date, seed, tickets, c, responses,
        })
    }

    fn elements(&self, parameters: &Parameters, key: &Key) -> Vec<Vec<u8>> {
        let mut elements = vec![
            parameters.digest.to_vec(),
            key.digest.to_vec(),
            vec![self.kind],
            vec![self.tickets.len() as u8],
            of_g2(&self.kappa),
            of_g1(&self.base),
            of_g1(&self.value),
            of_g2(&self.kappa_date),
            of_g1(&self.base_date),
            of_g1(&self.value_date),
            of_g1(&self.seed),
        ];
        for ticket in &self.tickets {
            elements.push(of_g2(&ticket.kappa));
            let points = [&ticket.base, &ticket.value, &ticket.serial, &ticket.tag, &ticket.index];
            elements.extend(points.map(of_g1));
        }
        elements
    }

    /// What the prover committed to, if the responses are right.
    fn commitments(&self, parameters: &Parameters, key: &Key, info: &[u8]) -> Vec<Vec<u8>> {
        let c = self.c;
        let [r, owner, v, expiry, r_date, o] = self.responses[..6] else { unreachable!() };
        let beta = &key.betas;
        let mut made = vec![
            of_g2(&((self.kappa - key.alpha) * c + g2() * r + beta[0] * owner + beta[1] * v + beta[2] * expiry)),
            of_g2(&((self.kappa_date - key.alpha) * c + g2() * r_date + beta[0] * expiry)),
            of_g1(&(self.seed * c + g1() * o + parameters.gamma * v)),
        ];
        for (number, ticket) in self.tickets.iter().enumerate() {
            let [r, index, o, mu, o_mu] = self.responses[6 + 5 * number..][..5] else { unreachable!() };
            let inverse = self.seed + ticket.index + parameters.gamma;
            let factor = ticket_challenge(info, number);
            made.push(of_g2(&((ticket.kappa - key.alpha) * c + g2() * r + beta[0] * index)));
            made.push(of_g1(&(ticket.index * c + g1() * o + parameters.gamma * index)));
            made.push(of_g1(&(parameters.gamma * c + inverse * mu + g1() * o_mu)));
            made.push(of_g1(&(ticket.serial * c + parameters.delta * mu)));
            made.push(of_g1(&(ticket.tag * c + g1() * (owner + factor * mu))));
        }
        made
    }
}

/// R = Hs(info, number).
fn ticket_challenge(info: &[u8], number: usize) -> Scalar {
    hash_to_scalar(&[DOMAIN, b"ticket", info, &[number as u8]])
}

fn check_info(info: &[u8]) -> Result<(), String> {
    let mut reader = Reader::new(info, 0x24)?;
    reader.take(32 + 8 + 16)?;
    reader.end()
}

pub fn verify(parameters: &Parameters, key: &Key, data: &[u8], info: &[u8], day: u64) -> Answer {
    check_info(info)?;
    let payment = Payment::read(data)?;
    let count = payment.tickets.len();
    if count > parameters.tickets || key.betas.len() != 4 {
        return Err("wrong-count".to_string());
    }
    let serials: Vec<String> = payment.tickets.iter().map(|ticket| hex::encode(of_g1(&ticket.serial))).collect();
    if serials.iter().collect::<HashSet<_>>().len() != count {
        return Err("doubled".to_string());
    }
    let made = payment.commitments(parameters, key, info);
    if challenge(b"ecash payment", &payment.elements(parameters, key), &made, &[info.to_vec()]) != payment.c {
        return Err("bad-proof".to_string());
    }
    let kind = key.betas[3] * Scalar::from(u64::from(payment.kind));
    let date = key.betas[1] * Scalar::from(day) + key.betas[3] * parameters.date;
    let index = key.betas[3] * parameters.index;
    let mut signatures = vec![
        (payment.base, payment.value, payment.kappa + kind),
        (payment.base_date, payment.value_date, payment.kappa_date + date),
    ];
    signatures.extend(payment.tickets.iter().map(|ticket| (ticket.base, ticket.value, ticket.kappa + index)));
    if !signed(&signatures, data) {
        return Err("bad-signature".to_string());
    }
    Ok(serials.join(","))
}

pub fn identify(first: &[u8], first_info: &[u8], second: &[u8], second_info: &[u8]) -> Answer {
    check_info(first_info)?;
    check_info(second_info)?;
    let (first, second) = (Payment::read(first)?, Payment::read(second)?);
    for (mine, ticket) in first.tickets.iter().enumerate() {
        for (theirs, other) in second.tickets.iter().enumerate() {
            if ticket.serial != other.serial {
                continue;
            }
            if first_info == second_info {
                return Ok("replay".to_string());
            }
            let (r, s) = (ticket_challenge(first_info, mine), ticket_challenge(second_info, theirs));
            let inverse = Option::<Scalar>::from((r - s).invert()).ok_or("equal challenges")?;
            return Ok(format!("double {}", hex::encode(of_g1(&((other.tag * r - ticket.tag * s) * inverse)))));
        }
    }
    Ok("apart".to_string())
}
