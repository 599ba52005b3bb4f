-- An observatory that gives telescope time to proposals from visiting astronomers.
CREATE TABLE astronomers (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    institute TEXT,
    country TEXT NOT NULL,
    joined_on DATE NOT NULL,
    advisor_id INTEGER,
    FOREIGN KEY (advisor_id) REFERENCES astronomers(id)
);

CREATE TABLE telescopes (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    kind TEXT NOT NULL,
    aperture_m REAL NOT NULL,
    site TEXT NOT NULL,
    first_light_on DATE NOT NULL,
    is_remote BOOLEAN NOT NULL
);

CREATE TABLE targets (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    object_type TEXT NOT NULL,
    constellation TEXT,
    magnitude REAL,
    distance_ly REAL
);

CREATE TABLE proposals (
    id INTEGER PRIMARY KEY,
    title TEXT NOT NULL,
    lead_id INTEGER NOT NULL,
    submitted_on DATE NOT NULL,
    status TEXT NOT NULL,
    hours_requested INTEGER NOT NULL,
    hours_granted INTEGER,
    FOREIGN KEY (lead_id) REFERENCES astronomers(id)
);

CREATE TABLE proposal_members (
    proposal_id INTEGER NOT NULL,
    astronomer_id INTEGER NOT NULL,
    PRIMARY KEY (proposal_id, astronomer_id),
    FOREIGN KEY (proposal_id) REFERENCES proposals(id),
    FOREIGN KEY (astronomer_id) REFERENCES astronomers(id)
);

CREATE TABLE observations (
    id INTEGER PRIMARY KEY,
    proposal_id INTEGER,
    telescope_id INTEGER NOT NULL,
    target_id INTEGER NOT NULL,
    observed_on DATE NOT NULL,
    exposure_seconds INTEGER NOT NULL,
    band TEXT,
    seeing_arcsec REAL,
    FOREIGN KEY (proposal_id) REFERENCES proposals(id),
    FOREIGN KEY (telescope_id) REFERENCES telescopes(id),
    FOREIGN KEY (target_id) REFERENCES targets(id)
);

CREATE TABLE outages (
    id INTEGER PRIMARY KEY,
    telescope_id INTEGER NOT NULL,
    began_on DATE NOT NULL,
    cause TEXT NOT NULL,
    hours_lost REAL,
    FOREIGN KEY (telescope_id) REFERENCES telescopes(id)
);

INSERT INTO astronomers VALUES
(1, 'Helena Brandt', 'Lindau Institute', 'Germany', '2014-02-03', NULL),
(2, 'Joaquin Salas', 'Atacama University', 'Chile', '2015-08-17', NULL),
(3, 'Mei-Ling Zhou', 'Pearl River Academy', 'China', '2018-05-28', NULL),
(4, 'Patrick Doyle', 'Armagh College', 'Ireland', '2019-10-14', 1),
(5, 'Savita Menon', 'Deccan Institute', 'India', '2020-01-20', NULL),
(6, 'Erik Halvorsen', 'Arctic University', 'Norway', '2021-03-08', 1),
(7, 'Camila Rojas', 'Atacama University', 'Chile', '2021-09-06', 2),
(8, 'Thabo Dlamini', 'Karoo Centre', 'South Africa', '2022-06-27', NULL),
(9, 'Anya Petrova', NULL, 'Bulgaria', '2023-02-13', 3),
(10, 'Luis Herrera', 'Atacama University', 'Chile', '2023-07-03', 2),
(11, 'Nomvula Khumalo', 'Karoo Centre', 'South Africa', '2024-01-15', 8),
(12, 'Jonas Frei', 'Lindau Institute', 'Germany', '2024-09-09', 1),
(13, 'Kavya Iyer', 'Deccan Institute', 'India', date('now', 'start of year', '-1 year', '+75 days'), 5),
(14, 'Oisin Kelly', 'Armagh College', 'Ireland', date('now', 'start of month', '-1 month', '+8 days'), 4),
(15, 'Wanda Sikora', NULL, 'Poland', date('now', '-11 days'), NULL);

INSERT INTO telescopes VALUES
(1, 'Aurora', 'optical', 3.6, 'Cerro Alto', '1998-04-11', 0),
(2, 'Borealis', 'optical', 2.2, 'Cerro Alto', '1991-10-02', 0),
(3, 'Cygnus Dish', 'radio', 32.0, 'Dry Valley', '1986-06-21', 1),
(4, 'Delphi', 'infrared', 4.1, 'Mount Harlow', '2009-12-11', 0),
(5, 'Echo Array', 'radio', 12.0, 'Dry Valley', '2013-03-13', 1),
(6, 'Falcon', 'optical', 1.0, 'Mount Harlow', '2005-08-08', 1),
(7, 'Gemma', 'infrared', 6.5, 'Cerro Alto', '2016-05-30', 0),
(8, 'Horizon', 'optical', 0.5, 'Campus Roof', '1974-09-19', 0),
(9, 'Iris', 'solar', 1.5, 'Mount Harlow', '2020-07-07', 1),
(10, 'Juno', 'optical', 8.2, 'Cerro Alto', '2023-11-24', 0);

INSERT INTO targets VALUES
(1, 'Andromeda Galaxy', 'galaxy', 'Andromeda', 3.4, 2537000),
(2, 'Orion Nebula', 'nebula', 'Orion', 4.0, 1344),
(3, 'Betelgeuse', 'star', 'Orion', 0.5, 548),
(4, 'Crab Nebula', 'nebula', 'Taurus', 8.4, 6500),
(5, 'Sombrero Galaxy', 'galaxy', 'Virgo', 8.0, 31100000),
(6, 'Proxima Centauri', 'star', 'Centaurus', 11.13, 4.24),
(7, 'Omega Centauri', 'cluster', 'Centaurus', 3.9, 17090),
(8, 'Pleiades', 'cluster', 'Taurus', 1.6, 444),
(9, 'Sagittarius A*', 'black hole', 'Sagittarius', NULL, 26670),
(10, 'TRAPPIST-1', 'star', 'Aquarius', 18.8, 40.7),
(11, 'Ring Nebula', 'nebula', 'Lyra', 8.8, 2570),
(12, 'Vega', 'star', 'Lyra', 0.03, 25.0),
(13, 'Cygnus X-1', 'black hole', 'Cygnus', NULL, 7200),
(14, 'Halley', 'comet', NULL, NULL, NULL),
(15, 'Whirlpool Galaxy', 'galaxy', 'Canes Venatici', 8.36, 31000000);

INSERT INTO proposals VALUES
(1, 'Dust lanes in nearby spirals', 1, '2023-01-15', 'accepted', 40, 30),
(2, 'Flares of red dwarfs', 2, '2023-02-02', 'accepted', 60, 60),
(3, 'Pulsar wind in the Crab', 3, '2023-03-20', 'accepted', 25, 20),
(4, 'Dimming of Betelgeuse', 4, '2023-04-11', 'accepted', 12, 12),
(5, 'Ages of globular clusters', 5, '2023-06-30', 'rejected', 80, NULL),
(6, 'Jets from stellar black holes', 8, '2023-09-12', 'accepted', 35, 28),
(7, 'A census of young stars in Orion', 7, '2024-01-09', 'accepted', 50, 36),
(8, 'Planets of cool stars', 2, '2024-02-19', 'accepted', 100, 64),
(9, 'Comet recovery test', 6, '2024-05-07', 'rejected', 8, NULL),
(10, 'Galactic centre monitoring', 3, '2024-08-22', 'accepted', 72, 54),
(11, 'Shells of planetary nebulae', 10, '2024-11-18', 'withdrawn', 16, NULL),
(12, 'Spectra of hot standard stars', 12, '2025-01-31', 'accepted', 10, 10),
(13, 'Dark matter in the Sombrero', 1, date('now', 'start of year', '-1 year', '+90 days'), 'accepted', 44, 22),
(14, 'Binary motion in Cygnus', 11, date('now', 'start of year', '-1 year', '+230 days'), 'rejected', 30, NULL),
(15, 'Low frequency radio maps', 13, date('now', '-77 days'), 'accepted', 90, 48),
(16, 'Dust around Vega', 6, date('now', 'start of month', '-1 month', '+3 days'), 'accepted', 18, 15),
(17, 'Spiral arms at high resolution', 14, date('now', 'start of month', '-1 month', '+17 days'), 'pending', 55, NULL),
(18, 'Winds of massive stars', 7, date('now', '-8 days'), 'pending', 24, NULL),
(19, 'Faint moons survey', 15, date('now', '-2 days'), 'pending', 66, NULL),
(20, 'Asteroid light curves', 10, '2025-03-17', 'accepted', 20, 14);

INSERT INTO proposal_members VALUES
(1, 1), (1, 4), (1, 12),
(2, 2), (2, 7), (2, 10),
(3, 3), (3, 9),
(4, 4), (4, 6),
(5, 5), (5, 3),
(6, 8), (6, 11), (6, 3),
(7, 7), (7, 2),
(8, 2), (8, 10), (8, 5), (8, 13),
(9, 6),
(10, 3), (10, 8), (10, 9),
(11, 10),
(12, 12), (12, 1),
(13, 1), (13, 5), (13, 6),
(14, 11), (14, 8),
(15, 13), (15, 11), (15, 5),
(16, 6), (16, 1), (16, 4),
(17, 14), (17, 4),
(18, 7), (18, 10),
(19, 15),
(20, 10), (20, 7);

INSERT INTO observations VALUES
(1, 1, 1, 1, '2023-02-18', 1200, 'R', 0.9),
(2, 1, 2, 5, '2023-03-07', 1800, 'V', 1.3),
(3, 2, 1, 6, '2023-03-25', 300, 'B', 1.1),
(4, 2, 6, 6, '2023-04-02', 240, 'B', 1.8),
(5, 3, 3, 4, '2023-05-16', 7200, NULL, NULL),
(6, 4, 8, 3, '2023-10-21', 5, 'V', 2.6),
(7, 4, 6, 3, '2023-11-10', 8, 'V', 1.7),
(8, 6, 5, 13, '2023-12-12', 10800, NULL, NULL),
(9, NULL, 8, 8, '2024-01-13', 60, 'V', 3.1),
(10, 7, 4, 2, '2024-02-10', 900, 'K', 0.8),
(11, 7, 7, 2, '2024-02-28', 600, 'J', 0.6),
(12, 8, 10, 10, '2024-03-30', 2400, 'I', 0.5),
(13, 8, 7, 10, '2024-04-14', 1500, 'K', 0.7),
(14, 1, 10, 15, '2024-05-05', 2100, 'R', 0.4),
(15, NULL, 2, 12, '2024-06-21', 2, 'V', 1.5),
(16, 10, 3, 9, '2024-09-19', 14400, NULL, NULL),
(17, 10, 7, 9, '2024-10-03', 3000, 'K', 0.55),
(18, 8, 10, 6, '2025-01-24', 1950, 'I', 0.65),
(19, 12, 1, 12, '2025-03-02', 4, 'B', 1.2),
(20, 10, 5, 9, date('now', 'start of year', '-1 year', '+65 days'), 12600, NULL, NULL),
(21, 13, 10, 5, date('now', 'start of year', '-1 year', '+140 days'), 3300, 'R', 0.45),
(22, 13, 7, 5, date('now', 'start of year', '-1 year', '+275 days'), 2700, 'J', 0.75),
(23, 15, 3, 4, date('now', '-61 days'), 9000, NULL, NULL),
(24, NULL, 8, 2, date('now', 'start of month', '-1 month', '+2 days'), 120, 'V', 2.9),
(25, 15, 5, 13, date('now', 'start of month', '-1 month', '+6 days'), 8400, NULL, NULL),
(26, 16, 4, 12, date('now', 'start of month', '-1 month', '+12 days'), 30, 'K', 0.95),
(27, 8, 10, 10, date('now', 'start of month', '-1 month', '+18 days'), 2550, 'I', 0.48),
(28, 10, 7, 9, date('now', 'start of month', '-1 month', '+24 days'), 3150, 'K', 0.62),
(29, 15, 3, 1, date('now', '-14 days'), 6300, NULL, NULL),
(30, 16, 7, 12, date('now', '-7 days'), 45, 'J', 0.85),
(31, NULL, 2, 7, date('now', '-5 days'), 420, 'B', 1.4),
(32, 13, 10, 5, date('now', '-3 days'), 3600, 'V', 0.42),
(33, 8, 4, 10, date('now', '-1 day'), 2250, 'K', 1.05),
(34, NULL, 8, 3, date('now', '-1 day'), 10, 'R', 2.4),
(35, 15, 5, 9, date('now'), 11700, NULL, NULL),
(36, NULL, 8, 8, date('now'), 90, 'B', 2.7);

INSERT INTO outages VALUES
(1, 2, '2023-01-22', 'snow', 31.0),
(2, 3, '2023-06-08', 'power failure', 5.5),
(3, 1, '2023-08-14', 'mirror coating', 96.0),
(4, 8, '2023-12-03', 'clouds', 9.0),
(5, 4, '2024-01-19', 'cooling leak', 42.5),
(6, 5, '2024-04-26', 'lightning', 13.0),
(7, 7, '2024-07-11', 'software', 3.25),
(8, 2, '2024-11-29', 'snow', 27.0),
(9, 10, '2025-02-12', 'software', 6.75),
(10, 3, date('now', 'start of year', '-1 year', '+55 days'), 'storm damage', 120.0),
(11, 6, date('now', 'start of year', '-1 year', '+145 days'), 'dome motor', 18.0),
(12, 1, date('now', '-69 days'), 'power failure', 7.0),
(13, 8, date('now', 'start of month', '-1 month', '+3 days'), 'clouds', 10.5),
(14, 4, date('now', 'start of month', '-1 month', '+15 days'), 'software', 2.0),
(15, 6, date('now', '-12 days'), 'dome motor', 14.0),
(16, 6, date('now', '-2 days'), 'clouds', NULL),
(17, 7, date('now'), 'software', NULL);
