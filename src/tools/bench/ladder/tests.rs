use super::*;
use crate::bench::{page, results::Results, tests::plan};

const RULES: LadderRules = LadderRules { first_hz: 10.0, factor: 2.0, steps_max: 10, max_hz: None };

/// A step as it should be: 100 µs at p99.
fn good(rate_hz: f64) -> Figures {
    Figures { rate_hz, p50: 50.0, p99: 100.0, p999: 120.0, is_complete: true, ..Figures::default() }
}

/// Climbs with the attempts that `make` makes, of which the first at a rate has number 0.
fn climb_with(rules: LadderRules, make: impl Fn(f64, usize) -> Option<Figures>) -> Climb {
    let mut rates = Vec::new();
    let measure = |rate_hz: f64| {
        let attempt = rates.iter().filter(|&&other| other == rate_hz).count();
        rates.push(rate_hz);
        Ok(make(rate_hz, attempt).map(|figures| Measured { figures, report: None }))
    };
    climb(rules, measure, |_| {}).expect("every run is made")
}

/// Each step's rate and verdict, `+` for one that was good and `.` for an interruption.
fn steps(climb: &Climb) -> String {
    let letter = |step: &Step| match step.verdict {
        Verdict::Good => '+',
        Verdict::Slow => 's',
        Verdict::Incomplete => 'i',
        Verdict::ClientLimit => 'c',
        Verdict::Failed => 'f',
        Verdict::Interrupted => '.',
    };
    let step = |step: &Step| format!("{}{}", step.figures.rate_hz, letter(step));
    climb.steps.iter().chain(&climb.below).map(step).collect::<Vec<_>>().join(" ")
}

#[test]
fn verdicts() {
    let check = |first: Option<f64>, change: fn(&mut Figures), expected: Verdict| {
        let mut figures = good(10.0);
        change(&mut figures);
        assert_eq!(judge(first, &figures), expected, "{figures:?}");
    };
    check(None, |_| {}, Verdict::Good);
    check(Some(50.0), |_| {}, Verdict::Good);
    check(Some(49.0), |_| {}, Verdict::Slow);
    check(None, |it| it.is_complete = false, Verdict::Incomplete);
    check(Some(49.0), |it| it.is_complete = false, Verdict::Incomplete);
    // What a saturated client misses is not the server's loss.
    let saturated = |it: &mut Figures| (it.is_complete, it.client_limit) = (false, Some("client saturated".to_owned()));
    check(Some(49.0), saturated, Verdict::ClientLimit);
    check(None, |it| it.failure = Some("no".to_owned()), Verdict::Failed);
    check(None, |it| it.is_interrupted = true, Verdict::Interrupted);
    // What disturbs a good step has not harmed it.
    check(None, |it| it.disturbances = vec!["others".to_owned()], Verdict::Good);
}

#[test]
fn climbs() {
    let check = |make: &dyn Fn(f64, usize) -> Option<Figures>, expected: &str, knee_hz: Option<f64>, ending: Ending| {
        let climb = climb_with(RULES, make);
        assert_eq!((&*steps(&climb), climb.knee_hz, climb.ending), (expected, knee_hz, ending));
        assert_eq!(climb.void.is_empty(), matches!(ending, Ending::Knee | Ending::Top), "{:?}", climb.void);
    };
    let with = |is_so: bool, rate_hz: f64, change: fn(&mut Figures)| {
        let mut figures = good(rate_hz);
        if is_so {
            change(&mut figures);
        }
        Some(figures)
    };
    // The knee lies at 40: twice the first p99 may be, more may not.
    let slow = |rate_hz: f64, _: usize| with(40.0 < rate_hz, rate_hz, |it| it.p99 = 201.0);
    check(&slow, "10+ 20+ 40+ 80s 80s 20+ 32+", Some(40.0), Ending::Knee);
    let lossy = |rate_hz: f64, _: usize| with(40.0 < rate_hz, rate_hz, |it| it.is_complete = false);
    check(&lossy, "10+ 20+ 40+ 80i 80i 20+ 32+", Some(40.0), Ending::Knee);
    // One noisy step ends nothing.
    let noisy = |rate_hz: f64, attempt: usize| {
        with(40.0 < rate_hz || rate_hz == 20.0 && attempt == 0, rate_hz, |it| it.p99 = 300.0)
    };
    check(&noisy, "10+ 20s 20+ 40+ 80s 80s 20+ 32+", Some(40.0), Ending::Knee);
    let saturated = |rate_hz: f64, _: usize| with(20.0 < rate_hz, rate_hz, |it| it.client_limit = Some("it".into()));
    check(&saturated, "10+ 20+ 40c 40c 10+ 16+", Some(20.0), Ending::ClientLimit);
    check(&|rate_hz, _| with(true, rate_hz, |it| it.is_complete = false), "10i 10i", None, Ending::Knee);
    check(&|rate_hz, _| (rate_hz < 30.0).then(|| good(rate_hz)), "10+ 20+", Some(20.0), Ending::Interrupted);
    let cut = |rate_hz: f64, _: usize| with(20.0 < rate_hz, rate_hz, |it| it.is_interrupted = true);
    check(&cut, "10+ 20+ 40.", Some(20.0), Ending::Interrupted);
}

#[test]
fn the_rules_bound_a_climb() {
    let check = |rules: LadderRules, expected: &str| {
        let climb = climb_with(rules, |rate_hz, _| Some(good(rate_hz)));
        assert_eq!((&*steps(&climb), climb.ending), (expected, Ending::Top));
        let text = climb.to_string();
        assert!(text.contains("knee     at least ") && text.contains("--ladder-max ended the climb"), "{text}");
    };
    check(LadderRules { steps_max: 2, ..RULES }, "10+ 20+ 10+ 16+");
    check(LadderRules { max_hz: Some(79.0), ..RULES }, "10+ 20+ 40+ 20+ 32+");
    check(LadderRules { steps_max: 1, ..RULES }, "10+ 5+ 8+");
}

#[test]
fn a_run_that_cannot_be_made_fails_a_step() {
    let measure = |rate_hz: f64| match rate_hz < 30.0 {
        true => Ok(Some(Measured { figures: good(rate_hz), report: None })),
        false => Err("only 9 of 10 subscribers connected".to_owned()),
    };
    let found = climb(RULES, measure, |_| {}).expect("the first step is made");
    assert_eq!(steps(&found), "10+ 20+ 40f 40f 10+ 16+");
    assert!(found.to_string().contains("failed, again\n         only 9 of 10 subscribers connected\n"), "{found}");
    // What fails at once is the command's fault, and no ladder.
    assert_eq!(climb(RULES, |_| Err("refused".to_owned()), |_| {}).map(|_| ()), Err("refused".to_owned()));
}

#[test]
fn a_climb_is_told() {
    let climb = climb_with(RULES, |rate_hz, _| {
        let is_at_limit = 20.0 < rate_hz;
        Some(Figures {
            deliveries_per_s: 1_000.0,
            server_cpu_share: Some(0.25),
            client_limit: is_at_limit.then(|| "client saturated: it used 95 % of a core".to_owned()),
            disturbances: if rate_hz == 10.0 { vec!["the hypervisor took a part".to_owned()] } else { Vec::new() },
            ..good(rate_hz)
        })
    });
    let text = climb.to_string();
    for expected in [
        "    ev/s deliveries/s   p50 µs   p99 µs  p99.9 µs   lost server  verdict\n",
        "      20         1000       50      100       120      0   25 %  good\n",
        "  client, again\n         client saturated: it used 95 % of a core\n",
        "knee     at least 20 ev/s: 1000 deliveries/s, p50 50 µs, p99 100 µs\n",
        "at 50 %  10 ev/s: 1000 deliveries/s, p50 50 µs, p99 100 µs",
        "at 80 %  16 ev/s: ",
        "VOID     the client is the limit, not the server: the knee is at least 20 ev/s (client saturated: it used 95 %",
        "VOID     at 10 ev/s: the hypervisor took a part\n",
    ] {
        assert!(text.contains(expected), "{expected:?} is not in\n{text}");
    }
    // The table fits a terminal; what is said in sentences may be longer.
    let rows =
        text.lines().skip_while(|line| !line.contains("deliveries/s  ")).take_while(|line| !line.contains("knee"));
    rows.for_each(|line| assert!(line.chars().count() <= 80, "{line:?}"));
    let json = serde_json::to_string(&climb).expect("plain data");
    assert_eq!(serde_json::from_str::<Climb>(&json).expect("as written").to_string(), text);
    let mut results = Results::default();
    results.ladders.push(("<i>mine".to_owned(), climb));
    let page = page::page(&results);
    for expected in ["<h2>&lt;i&gt;mine</h2>", "Void: the client is the limit", "<b>≥ 20</b>", "<td>client, again</td>"]
    {
        assert!(page.contains(expected), "{expected:?} is not in {page}");
    }
    assert!(!page.contains("<i>") && page.matches("<tr>").count() == page.matches("</tr>").count(), "{page}");
    let text = page::comparison(&results);
    assert!(
        text.contains("<i>mine           ≥ 20           1000 ") && text.contains("\n  VOID the client is the limit"),
        "{text}"
    );
}

#[test]
fn rates_are_rounded() {
    let rates = [0.125, 6.25, 7.8125, 8.0, 10.0, 12.26, 100.0, 999.96, 1_234.5];
    assert_eq!(rates.map(round), ["0.12", "6.25", "7.81", "8", "10", "12.3", "100", "1000", "1234"]);
}

#[test]
fn options_of_a_ladder() {
    let rules = |arguments: &[&str]| plan(arguments).map(|plan| plan.ladder);
    assert_eq!(rules(&[]), Ok(None));
    let expected = LadderRules { first_hz: 8.0, factor: 1.25, steps_max: 32, max_hz: None };
    assert_eq!(rules(&["--ladder", "--rate", "8"]), Ok(Some(expected)));
    let check = |arguments: &[&str], expected: &str| {
        let problem = rules(&[&["--ladder"], arguments].concat()).expect_err("it makes no sense");
        assert!(problem.contains(expected), "{problem}");
    };
    check(&["--ladder-factor", "1"], "--ladder-factor must be above 1");
    check(&["--rate", "8", "--ladder-max", "7"], "--ladder-max must not be below --rate, which is 8");
    let step = plan(&["--ladder", "--ladder-warmup", "250ms"]).expect("a plan").at_rate(33.0);
    assert_eq!((step.loads[0].pace.rate, step.loads[0].pace.warmup), (33.0, step.warmup));
    assert_eq!(step.warmup.as_millis(), 250);
}
