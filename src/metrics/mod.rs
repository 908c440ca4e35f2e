//! Counters and histograms per reactor, merged at scrape.
