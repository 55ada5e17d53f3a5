//! Answers of services: by health, by `when_down`, and by weight.

use super::*;

#[test]
fn services_answer_by_health() {
    use Standing::{Healthy as H, Unhealthy as U, Unknown as N};
    // The addresses that may appear in an answer of `www`.
    for (standing, expected, fail_open) in [
        ([H, H, H, H], "11 12 13", false),
        ([U, H, U, H], "12", false),
        ([N, H, N, N], "12", false),
        ([U, N, U, U], "12", false),
        ([N, N, N, N], "11 12 13", false),
        ([U, U, U, H], "11 12 13", true),
        ([U, U, U, U], "11 12 13", true),
    ] {
        let table = table(standing);
        let mut seen = std::collections::BTreeSet::new();
        let mut responder = Responder::new(SmallRng::seed_from_u64(3));
        let mut buffer = [0; 1232];
        for _ in 0..200 {
            let disposition = responder.respond(
                &query("wWw.example", 1, None),
                &client(Transport::Udp),
                &table,
                &mut buffer,
            );
            let Disposition::Reply(reply) = disposition else { panic!("{disposition:?}") };
            let served = reply.service.unwrap();
            assert_eq!(
                (served.service, served.pool, served.column),
                (ServiceId(0), Some(PoolId(0)), Some(usize::from(fail_open)))
            );
            let message = Message::from_vec(&buffer[..reply.length]).unwrap();
            assert_eq!(
                message.queries[0].name().to_string(),
                "wWw.example.",
                "the case of the question is kept"
            );
            let mut picked: Vec<u32> = responder.picked().iter().map(|backend| backend + 11).collect();
            for (record, backend) in message.answers.iter().zip(picked.drain(..)) {
                assert_eq!(record.ttl, 20);
                assert_eq!(record.data.to_string(), format!("192.0.2.{backend}"));
                seen.insert(backend);
            }
            let mut distinct = addresses(&message);
            distinct.sort();
            distinct.dedup();
            assert_eq!(distinct.len(), message.answers.len());
            assert_eq!(message.answers.len(), expected.split(' ').count().min(2));
        }
        let seen: Vec<String> = seen.iter().map(u32::to_string).collect();
        assert_eq!(seen.join(" "), expected, "{standing:?}");
    }
}

#[test]
fn when_down_policies() {
    let table = table([Standing::Unhealthy; 4]);
    let nodata = ask(&table, "all.example", rtype::A);
    assert_eq!((nodata.metadata.response_code, nodata.answers.len()), (ResponseCode::NoError, 0));
    assert!(nodata.authorities[0].ttl <= 20, "nothing is kept no longer than an answer");
    let servfail = ask(&table, "one.example", rtype::A);
    assert_eq!(servfail.metadata.response_code, ResponseCode::ServFail);
    assert!(servfail.answers.is_empty() && servfail.authorities.is_empty());
    let fixed = ask(&table, "x.y.apps.example", rtype::A);
    assert_eq!(shown(&fixed.answers), ["x.y.apps.example. 20 A 203.0.113.1"]);
    assert!(ask(&table, "x.apps.example", rtype::AAAA).answers.is_empty());
}

#[test]
fn the_first_place_is_proportional_to_the_weights() {
    let table = table(HEALTHY);
    let mut responder = Responder::new(SmallRng::seed_from_u64(5));
    let mut buffer = [0; 1232];
    let mut counts = [0_u32; 4];
    let rounds = 20_000;
    for _ in 0..rounds {
        responder.respond(&query("www.example", 1, None), &client(Transport::Udp), &table, &mut buffer);
        counts[responder.picked()[0] as usize] += 1;
    }
    for (count, weight) in counts.into_iter().zip([3.0, 2.0, 1.0, 0.0]) {
        let (n, p) = (f64::from(rounds), weight / 6.0);
        assert!((f64::from(count) - n * p).abs() <= 3.0 * (n * p * (1.0 - p)).sqrt(), "{counts:?}");
    }
}
