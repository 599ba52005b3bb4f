-- A podcast streaming service: hosts, shows, episodes, listeners, plays and genres.
CREATE TABLE hosts (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    country TEXT NOT NULL,
    birth_year INTEGER
);

CREATE TABLE podcasts (
    id INTEGER PRIMARY KEY,
    title TEXT NOT NULL,
    host_id INTEGER NOT NULL,
    language TEXT NOT NULL,
    launched_on DATE NOT NULL,
    is_explicit BOOLEAN NOT NULL,
    FOREIGN KEY (host_id) REFERENCES hosts(id)
);

CREATE TABLE episodes (
    id INTEGER PRIMARY KEY,
    podcast_id INTEGER NOT NULL,
    title TEXT NOT NULL,
    season INTEGER,
    duration_minutes INTEGER NOT NULL,
    published_on DATE NOT NULL,
    FOREIGN KEY (podcast_id) REFERENCES podcasts(id)
);

CREATE TABLE genres (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL
);

CREATE TABLE podcast_genres (
    podcast_id INTEGER NOT NULL,
    genre_id INTEGER NOT NULL,
    PRIMARY KEY (podcast_id, genre_id),
    FOREIGN KEY (podcast_id) REFERENCES podcasts(id),
    FOREIGN KEY (genre_id) REFERENCES genres(id)
);

CREATE TABLE listeners (
    id INTEGER PRIMARY KEY,
    username TEXT NOT NULL,
    country TEXT NOT NULL,
    plan TEXT NOT NULL,
    joined_on DATE NOT NULL,
    birth_year INTEGER,
    invited_by INTEGER,
    FOREIGN KEY (invited_by) REFERENCES listeners(id)
);

CREATE TABLE plays (
    id INTEGER PRIMARY KEY,
    listener_id INTEGER NOT NULL,
    episode_id INTEGER NOT NULL,
    played_on DATE NOT NULL,
    minutes_listened INTEGER NOT NULL,
    device TEXT,
    FOREIGN KEY (listener_id) REFERENCES listeners(id),
    FOREIGN KEY (episode_id) REFERENCES episodes(id)
);

INSERT INTO hosts VALUES
(1, 'Mara Quill', 'Canada', 1984),
(2, 'Theo Lindgren', 'Sweden', 1979),
(3, 'Aiko Fujita', 'Japan', 1990),
(4, 'Desmond Clarke', 'United States', NULL),
(5, 'Lucia Ferrer', 'Spain', 1987),
(6, 'Bram Jansen', 'Netherlands', 1972),
(7, 'Zadie Okoro', 'Nigeria', 1993),
(8, 'Walt Emmerich', 'Ireland', 1965),
(9, 'Ingrid Solberg', 'Norway', 1981),
(10, 'Rafael Pinto', 'Brazil', NULL);

INSERT INTO podcasts VALUES
(1, 'Deep Water', 1, 'English', '2019-04-08', 0),
(2, 'Cold Cases of the North', 2, 'English', '2020-10-31', 1),
(3, 'Tokyo Kitchen Diaries', 3, 'Japanese', '2021-03-15', 0),
(4, 'Markets in Plain Words', 4, 'English', '2018-01-22', 0),
(5, 'Historias de Barrio', 5, 'Spanish', '2022-05-05', 0),
(6, 'The Long Ride', 6, 'Dutch', '2020-06-12', 0),
(7, 'Lagos After Dark', 7, 'English', '2023-02-17', 1),
(8, 'Old Radio, New Ears', 8, 'English', '2017-09-01', 0),
(9, 'Fjord Stories', 9, 'Norwegian', '2022-11-20', 0),
(10, 'Code and Coffee', 4, 'English', '2023-08-28', 0),
(11, 'Cuentos Breves', 5, 'Spanish', '2024-01-10', 0),
(12, 'Night Shift Confessions', 7, 'English', '2024-06-14', 1),
(13, 'Small Planet', 1, 'English', date('now', 'start of year', '-1 year', '+25 days'), 0),
(14, 'Nordlys', 9, 'Norwegian', date('now', 'start of month', '-1 month', '+6 days'), 0);

INSERT INTO episodes VALUES
(1, 1, 'The Trench', 1, 48, '2023-01-12'),
(2, 1, 'Whale Fall', 1, 52, '2023-02-09'),
(3, 1, 'Ghost Nets', 2, 44, '2024-03-14'),
(4, 2, 'The Vanished Skier', 3, 61, '2023-03-03'),
(5, 2, 'A Light in the Barn', 3, 67, '2023-04-07'),
(6, 2, 'Letters from Kiruna', 4, 73, '2024-10-31'),
(7, 3, 'Dashi from Scratch', NULL, 25, '2023-05-21'),
(8, 3, 'Knives and Whetstones', NULL, 31, '2023-09-17'),
(9, 4, 'What Is a Bond', 5, 18, '2023-01-30'),
(10, 4, 'Inflation for Beginners', 5, 22, '2023-06-26'),
(11, 4, 'The Trouble with Tariffs', 6, 27, '2025-02-24'),
(12, 5, 'La Panaderia', 1, 35, '2023-07-11'),
(13, 5, 'El Ultimo Cine', 2, 39, '2024-05-02'),
(14, 6, 'Wind Mee', 2, 57, '2023-08-19'),
(15, 6, 'De Afsluitdijk', 2, 64, '2024-04-06'),
(16, 7, 'Neon and Suya', 1, 42, '2023-10-13'),
(17, 7, 'The Bassline', 1, 46, '2023-12-08'),
(18, 8, 'War of the Worlds Revisited', NULL, 81, '2023-10-30'),
(19, 8, 'Serial Cliffhangers', NULL, 76, '2024-08-15'),
(20, 9, 'Fiskeren', 1, 29, '2024-02-04'),
(21, 10, 'Off by One', 1, 33, '2023-09-11'),
(22, 10, 'Naming Things', 1, 37, '2024-01-29'),
(23, 10, 'The Big Rewrite', 2, 54, '2024-09-23'),
(24, 11, 'El Faro', 1, 12, '2024-01-17'),
(25, 11, 'La Carta', 1, 14, '2024-07-24'),
(26, 12, 'Ward Nine', 1, 40, '2024-06-21'),
(27, 13, 'Moss', 1, 26, date('now', 'start of year', '-1 year', '+31 days')),
(28, 13, 'Soil', 1, 28, date('now', 'start of year', '-1 year', '+170 days')),
(29, 10, 'Legacy Code', 2, 49, date('now', 'start of year', '-1 year', '+260 days')),
(30, 12, 'The Bus Depot', 1, 43, date('now', '-72 days')),
(31, 14, 'Vinterlys', 1, 21, date('now', 'start of month', '-1 month', '+6 days')),
(32, 1, 'Salt', 3, 50, date('now', 'start of month', '-1 month', '+11 days')),
(33, 14, 'Morketid', 1, 23, date('now', 'start of month', '-1 month', '+20 days')),
(34, 4, 'Pensions Without Tears', 6, 24, date('now', 'start of month', '-1 month', '+25 days')),
(35, 7, 'Danfo Dreams', 2, 47, date('now', '-15 days')),
(36, 2, 'The Ferry Ticket', 4, 70, date('now', '-6 days')),
(37, 5, 'La Fuente', 3, 36, date('now', '-3 days')),
(38, 13, 'Rain', 2, 30, date('now', '-1 day')),
(39, 10, 'Ship It Friday', 3, 41, date('now')),
(40, 8, 'Static', NULL, 79, '2025-01-16'),
(41, 3, 'Pickles for Winter', NULL, 28, '2024-11-21');

INSERT INTO genres VALUES
(1, 'nature'),
(2, 'true crime'),
(3, 'food'),
(4, 'business'),
(5, 'fiction'),
(6, 'sport'),
(7, 'culture'),
(8, 'history'),
(9, 'technology'),
(10, 'comedy'),
(11, 'science');

INSERT INTO podcast_genres VALUES
(1, 1), (1, 11),
(2, 2),
(3, 3), (3, 7),
(4, 4),
(5, 7), (5, 8),
(6, 6),
(7, 7),
(8, 5), (8, 8),
(9, 5), (9, 7),
(10, 9), (10, 4),
(11, 5),
(12, 2), (12, 5),
(13, 1), (13, 11),
(14, 1), (14, 7);

INSERT INTO listeners VALUES
(1, 'tidepool', 'Canada', 'premium', '2023-01-05', 1988, NULL),
(2, 'noirfan77', 'Sweden', 'premium', '2023-01-19', 1977, NULL),
(3, 'miso_soup', 'Japan', 'free', '2023-02-11', 1995, NULL),
(4, 'bondvigilante', 'United States', 'family', '2023-03-27', 1980, NULL),
(5, 'abuelita', 'Spain', 'free', '2023-05-14', 1951, NULL),
(6, 'fietser', 'Netherlands', 'premium', '2023-07-02', 1969, 2),
(7, 'kuti_fan', 'Nigeria', 'free', '2023-08-23', NULL, NULL),
(8, 'radiohead_gran', 'United States', 'family', '2023-10-10', 1946, 4),
(9, 'fjordling', 'Norway', 'student', '2023-11-28', 2003, 2),
(10, 'nullpointer', 'Germany', 'premium', '2024-01-30', 1992, 4),
(11, 'lectora', 'Spain', 'student', '2024-02-22', 2001, 5),
(12, 'nightnurse', 'United States', 'free', '2024-06-20', 1985, 8),
(13, 'mossy', 'Canada', 'student', '2024-09-08', 2004, 1),
(14, 'silent_ed', 'Germany', 'free', '2024-12-26', NULL, 10),
(15, 'polarfox', 'Norway', 'premium', date('now', 'start of year', '-1 year', '+45 days'), 1999, 9),
(16, 'carioca', 'Brazil', 'free', date('now', 'start of year', '-1 year', '+190 days'), 1997, NULL),
(17, 'quietmorning', 'Japan', 'premium', date('now', '-63 days'), NULL, 3),
(18, 'saltlake', 'United States', 'free', date('now', 'start of month', '-1 month', '+1 day'), 1990, 12),
(19, 'dijkstra', 'Netherlands', 'student', date('now', 'start of month', '-1 month', '+12 days'), 2005, 6),
(20, 'lagos_lou', 'Nigeria', 'premium', date('now', 'start of month', '-1 month', '+19 days'), 1983, 7),
(21, 'bytesize', 'Germany', 'free', date('now', '-14 days'), 1998, 10),
(22, 'panadero', 'Spain', 'premium', date('now', '-4 days'), 1974, NULL),
(23, 'owl_hour', 'Canada', 'free', date('now', '-1 day'), NULL, 13),
(24, 'first_timer', 'Brazil', 'free', date('now'), 2006, NULL);

INSERT INTO plays VALUES
(1, 1, 1, '2023-01-20', 48, 'phone'),
(2, 1, 2, '2023-02-10', 52, 'phone'),
(3, 2, 4, '2023-03-05', 61, 'desktop'),
(4, 3, 7, '2023-05-22', 25, 'phone'),
(5, 4, 9, '2023-04-02', 18, 'car'),
(6, 4, 10, '2023-06-27', 22, 'car'),
(7, 2, 5, '2023-06-30', 40, 'desktop'),
(8, 5, 12, '2023-07-15', 35, 'smart speaker'),
(9, 6, 14, '2023-08-20', 57, 'phone'),
(10, 3, 8, '2023-09-18', 12, 'tablet'),
(11, 7, 16, '2023-10-14', 42, 'phone'),
(12, 8, 18, '2023-11-01', 81, 'smart speaker'),
(13, 7, 17, '2023-12-09', 46, NULL),
(14, 10, 21, '2024-02-01', 33, 'desktop'),
(15, 10, 22, '2024-02-02', 37, 'desktop'),
(16, 9, 20, '2024-02-06', 9, 'phone'),
(17, 11, 24, '2024-02-25', 12, 'tablet'),
(18, 1, 3, '2024-03-16', 44, 'phone'),
(19, 6, 15, '2024-04-07', 30, 'phone'),
(20, 5, 13, '2024-05-04', 39, 'smart speaker'),
(21, 12, 26, '2024-06-22', 40, 'phone'),
(22, 11, 25, '2024-07-25', 14, NULL),
(23, 8, 19, '2024-08-20', 76, 'smart speaker'),
(24, 10, 23, '2024-09-24', 54, 'desktop'),
(25, 13, 1, '2024-10-01', 20, 'tablet'),
(26, 2, 6, '2024-11-01', 73, 'desktop'),
(27, 12, 4, '2024-11-15', 61, 'phone'),
(28, 4, 11, '2025-02-25', 27, 'car'),
(29, 13, 27, date('now', 'start of year', '-1 year', '+40 days'), 26, 'phone'),
(30, 15, 20, date('now', 'start of year', '-1 year', '+60 days'), 29, 'phone'),
(31, 13, 28, date('now', 'start of year', '-1 year', '+172 days'), 15, 'phone'),
(32, 16, 12, date('now', 'start of year', '-1 year', '+195 days'), 5, 'tablet'),
(33, 10, 29, date('now', 'start of year', '-1 year', '+261 days'), 49, 'desktop'),
(34, 12, 30, date('now', '-70 days'), 38, 'phone'),
(35, 17, 7, date('now', '-62 days'), 25, 'tablet'),
(36, 18, 26, date('now', 'start of month', '-1 month', '+2 days'), 40, 'phone'),
(37, 15, 31, date('now', 'start of month', '-1 month', '+7 days'), 21, 'car'),
(38, 1, 32, date('now', 'start of month', '-1 month', '+12 days'), 50, 'phone'),
(39, 19, 15, date('now', 'start of month', '-1 month', '+14 days'), 64, 'desktop'),
(40, 20, 16, date('now', 'start of month', '-1 month', '+20 days'), 8, NULL),
(41, 9, 33, date('now', 'start of month', '-1 month', '+22 days'), 23, 'phone'),
(42, 4, 34, date('now', '-20 days'), 24, 'car'),
(43, 20, 35, date('now', '-14 days'), 47, 'smart speaker'),
(44, 21, 21, date('now', '-13 days'), 33, 'phone'),
(45, 17, 1, date('now', '-11 days'), 10, 'tablet'),
(46, 12, 36, date('now', '-6 days'), 70, 'phone'),
(47, 2, 36, date('now', '-5 days'), 68, 'desktop'),
(48, 22, 37, date('now', '-3 days'), 36, 'car'),
(49, 5, 37, date('now', '-2 days'), 36, 'smart speaker'),
(50, 1, 38, date('now', '-1 day'), 30, 'phone'),
(51, 23, 4, date('now', '-1 day'), 11, 'phone'),
(52, 10, 39, date('now'), 41, 'desktop');
