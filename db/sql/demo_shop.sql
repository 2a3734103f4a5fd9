-- The demo shop's rows. A statement that wants the number of items has a parameter, $1, an int.
--
-- Nothing here may depend on the clock, a random number, the locale or the order of a plan: every property of row n is
-- a byte of sha256('item n'), money is reckoned in whole cents and divided by 100.0 once, and times are whole
-- milliseconds since a fixed Monday. So the first 500 items are the same in a shop of 500 and in a shop of 5,000.

INSERT INTO public."companies" ("id", "name", "createdAt", "updatedAt", "cashBalanceSRD", "cashBalanceUSD") VALUES
    ('demo-company-1', 'Paramart Elektro & Huishoud N.V.', '2020-11-02 12:00:00.125', '2026-10-30 20:14:09.731',
     1284310.55, 48210.4),
    ('demo-company-2', 'Nickerie Trading N.V.', '2022-02-14 13:45:10.008', '2026-10-29 18:02:44.19',
     210775.1, 9034.995),
    ('demo-company-3', 'Tamanredjo Bouw & Tuin', '2023-08-21 11:20:31.9', '2026-10-12 15:33:00',
     -4120.75, 0.30000000000000004);

-- The hash of a password would be 53 characters of [./A-Za-z0-9]: this one has a dash, so no password matches it.
INSERT INTO public."users" ("id", "name", "email", "password", "role", "isActive", "createdAt", "updatedAt", "companyId")
SELECT 'demo-user-' || n,
       name,
       mailbox || '@' || CASE company WHEN 1 THEN 'paramart' WHEN 2 THEN 'nickerie-trading' WHEN 3 THEN 'tamanredjo-bouw'
                                      ELSE 'boekhouding' END || '.example',
       '$2b$10$' || rpad('demo-user-without-a-password', 53, '-'),
       role::public."UserRole",
       active,
       TIMESTAMP '2020-11-02 12:30:00.25' + n * 47 * INTERVAL '1 day' + n * INTERVAL '7777 milliseconds',
       TIMESTAMP '2026-01-05 09:00:00.5' + n * 5 * INTERVAL '1 day' + n * INTERVAL '12345 milliseconds',
       'demo-company-' || company
FROM (VALUES
    (1, 'Anjali Ramdin', 'anjali.ramdin', 1, 'ADMIN', true),
    (2, 'Marcel Wijdenbosch', 'marcel.wijdenbosch', 1, 'MANAGER', true),
    (3, 'Siti Kartosen', 'siti.kartosen', 1, 'MANAGER', true),
    (4, 'Chen Wei 陈伟', 'chen.wei', 1, 'MANAGER', true),
    (5, 'Renée d''Abreu', 'renee.dabreu', 1, 'MANAGER', false),
    (6, 'Kofi Amoksi', 'kofi.amoksi', 1, 'STAFF', true),
    (7, 'Priya Jagessar', 'priya.jagessar', 1, 'STAFF', true),
    (8, 'Dewi Soekarto', 'dewi.soekarto', 1, 'STAFF', true),
    (9, 'Johan van Dijk', 'johan.van.dijk', 1, 'STAFF', true),
    (10, 'Maikel Pinas', 'maikel.pinas', 1, 'STAFF', true),
    (11, 'Rohan Bissessar', 'rohan.bissessar', 1, 'STAFF', true),
    (12, 'Naomi Landveld', 'naomi.landveld', 1, 'STAFF', true),
    (13, 'Ricardo Tjon A Fat', 'ricardo.tjon.a.fat', 1, 'STAFF', true),
    (14, 'Shanti Mahabier', 'shanti.mahabier', 1, 'STAFF', false),
    (15, 'Wendell Blokland', 'wendell.blokland', 1, 'STAFF', true),
    (16, 'Agnes Toekimin', 'agnes.toekimin', 1, 'STAFF', true),
    (17, 'José Fernandes', 'jose.fernandes', 1, 'STAFF', true),
    (18, 'Vishal Gopal', 'vishal.gopal', 1, 'STAFF', true),
    (19, 'Lucia Emanuels', 'lucia.emanuels', 1, 'STAFF', false),
    (20, 'Delano Afonsoewa', 'delano.afonsoewa', 1, 'STAFF', true),
    (21, 'Mei Lin Tjin', 'mei.lin.tjin', 1, 'STAFF', true),
    (22, 'Radjesh Ori', 'radjesh.ori', 1, 'STAFF', true),
    (23, 'Farida Moestadja', 'farida.moestadja', 1, 'STAFF', true),
    (24, 'Stanley Kwasiba', 'stanley.kwasiba', 1, 'STAFF', true),
    (25, 'Anjali Ramdin', 'anjali.ramdin.2', 1, 'STAFF', true),
    (26, 'Oud-medewerker', 'oud.medewerker', 1, 'STAFF', false),
    (27, 'Soebhas Parmessar', 'soebhas.parmessar', 2, 'ADMIN', true),
    (28, 'Ingrid Baldew', 'ingrid.baldew', 2, 'MANAGER', true),
    (29, 'Clyde Codrington', 'clyde.codrington', 2, 'STAFF', true),
    (30, 'Sunita Autar', 'sunita.autar', 2, 'STAFF', true),
    (31, 'Rudy Amatmohamed', 'rudy.amatmohamed', 2, 'STAFF', true),
    (32, 'Usha Kalpoe', 'usha.kalpoe', 2, 'STAFF', false),
    (33, 'Brian Cumberbatch', 'brian.cumberbatch', 2, 'STAFF', true),
    (34, 'Thelma Hew A Kee', 'thelma.hew.a.kee', 2, 'STAFF', true),
    (35, 'Sandra Djojodikromo', 'sandra.djojodikromo', 3, 'ADMIN', true),
    (36, 'Orlando Pawirodinomo', 'orlando.pawirodinomo', 3, 'MANAGER', true),
    (37, 'Ramon Sabajo', 'ramon.sabajo', 3, 'STAFF', true),
    (38, 'Yvonne Kasantaroeno', 'yvonne.kasantaroeno', 3, 'STAFF', false),
    (39, 'Harold Brunings', 'harold.brunings', NULL, 'ADMIN', true),
    (40, 'Zoë Müller', 'zoe.muller', NULL, 'STAFF', true)
) AS person (n, name, mailbox, company, role, active);

INSERT INTO public."locations"
    ("id", "name", "address", "description", "isActive", "createdAt", "updatedAt", "companyId", "managerId")
SELECT 'demo-location-' || n,
       name,
       address,
       description,
       active,
       TIMESTAMP '2020-11-03 13:00:00.75' + n * 101 * INTERVAL '1 day' + n * INTERVAL '4321 milliseconds',
       TIMESTAMP '2026-02-02 10:00:00' + n * 13 * INTERVAL '1 day' + n * INTERVAL '98765 milliseconds',
       'demo-company-' || company,
       'demo-user-' || manager
FROM (VALUES
    (1, 'Main Warehouse', 'Industrieweg-Zuid 118, Paramaribo', 'Bulk stock, 24 racks, loading dock behind', true, 1, 2),
    (2, 'Shop Centrum', 'Keizerstraat 57, Paramaribo', 'Showroom and counter', true, 1, 3),
    (3, 'Shop Noord', 'Tourtonnelaan 204, Paramaribo', NULL, true, 1, 4),
    (4, 'Shop Lelydorp', 'Indira Gandhiweg 611, Lelydorp', 'Open on Sundays', true, 1, 6),
    (5, 'Harbour Depot', 'Havencomplex 9, Paramaribo', 'Containers that wait for customs', true, 1, 2),
    (6, 'Showroom Latour', 'Latourweg 88, Paramaribo', 'Closed since 2025, stock to be moved', false, 1, 5),
    (7, 'Magazijn Kwatta', 'Kwattaweg 412, Paramaribo', NULL, true, 1, NULL),
    (8, 'Main Warehouse', 'Waterloostraat 21, Nieuw Nickerie', 'Not to be confused with Paramaribo', true, 2, 28),
    (9, 'Shop Nieuw Nickerie', 'Gouverneurstraat 74, Nieuw Nickerie', 'Counter', true, 2, 29),
    (10, 'Shop Wageningen', NULL, 'Two shelves in the rice mill''s canteen', true, 2, NULL),
    (11, 'Main Warehouse', 'Oost-Westverbinding 830, Tamanredjo', 'Yard and shed', true, 3, 36),
    (12, 'Shop Meerzorg', 'Meerzorgweg 15, Meerzorg', 'Next to the bridge', true, 3, 35)
) AS place (n, name, address, description, active, company, manager);

-- OFFSET 0 keeps the planner from merging a step into the next, which would reckon each value again at every use.
INSERT INTO public."items" (
    "id", "name", "status", "quantityInStock", "costPerUnitUSD", "freightCostUSD", "sellingPriceSRD", "supplier",
    "supplierSku", "orderDate", "expectedArrival", "orderNumber", "profitMarginPercent", "minStockLevel", "notes",
    "createdAt", "updatedAt", "companyId", "assignedUserId", "locationId")
WITH department (department, brands, colours) AS (VALUES
    ('electronics', 'Voltara|Hanami|Zenko|Orbis|Telstar|Novex|Akari|Paramax',
     'Black|White|Silver|Grey|Blue|Red'),
    ('kitchen', 'Nordhaus|Kökmeister|Cucina Nova|Royal Chef|Tropica|Pandan|Café Colón|Bonaire',
     'White|Black|Stainless|Red|Cream|Mint'),
    ('household', 'Nordhaus|Tropica|Casa Linda|Klaroline|Suriwash|Mangrove|Aquaviva|Homely',
     'White|Beige|Grey|Blue|Green|Walnut'),
    ('tools', 'Ironhand|Bakru|Torque|Meester|Sawmill|Caiman|Delta|Kapok', 'Yellow|Orange|'),
    ('leisure', 'Palulu|Kwikwi|Tropica|Morpho|Rio|Wan Pipel|Speelgoed & Co|Sranan',
     'Red|Blue|Green|Yellow|Pink|Purple|Multicolour')
), product (product_n, department, product, specs, low, high) AS (VALUES
    (1, 'electronics', 'LED TV', '24"|32"|43"|50"|55"|65"', 78, 640),
    (2, 'electronics', 'Soundbar', '60 W|120 W|2.1|5.1 with subwoofer', 22, 190),
    (3, 'electronics', 'Smartphone', '64 GB|128 GB|256 GB|dual SIM 128 GB', 69, 410),
    (4, 'electronics', 'Tablet', '8" 32 GB|10" 64 GB|11" 128 GB', 55, 260),
    (5, 'electronics', 'Laptop', '14" 8 GB|15.6" 8 GB|15.6" 16 GB', 240, 890),
    (6, 'electronics', 'Bluetooth Speaker', 'mini|10 W|20 W|party 80 W', 6, 95),
    (7, 'electronics', 'USB-C Cable', '0.5 m|1 m|2 m|3 m braided', 1, 4),
    (8, 'electronics', 'Wall Charger', '5 W|20 W|33 W|65 W', 2, 17),
    (9, 'electronics', 'Power Bank', '5000 mAh|10000 mAh|20000 mAh', 5, 28),
    (10, 'electronics', 'Wi-Fi Router', 'N300|AC1200|AX1800|AX3000', 14, 98),
    (11, 'electronics', 'AA Battery', '4-pack|8-pack|24-pack', 1, 6),
    (12, 'electronics', 'Security Camera', 'indoor|outdoor|set of 4', 18, 170),
    (13, 'kitchen', 'Rice Cooker', '1 L|1.8 L|2.8 L|5 L', 11, 46),
    (14, 'kitchen', 'Blender', '1.25 L|1.5 L|2 L with mill', 13, 58),
    (15, 'kitchen', 'Refrigerator', '90 L|210 L|330 L|520 L side-by-side', 110, 780),
    (16, 'kitchen', 'Gas Stove', '2 burners|4 burners|5 burners with oven', 24, 360),
    (17, 'kitchen', 'Microwave', '20 L|25 L|30 L grill', 48, 140),
    (18, 'kitchen', 'Electric Kettle', '1 L|1.7 L|1.8 L glass', 7, 26),
    (19, 'kitchen', 'Pressure Cooker', '5 L|7 L|11 L', 15, 62),
    (20, 'kitchen', 'Wok', '28 cm|32 cm|36 cm cast iron', 6, 31),
    (21, 'kitchen', 'Freezer', '100 L|200 L|300 L|450 L chest', 120, 520),
    (22, 'kitchen', 'Dinner Plates', 'set of 6|set of 12|set of 24', 4, 22),
    (23, 'kitchen', 'Coffee Maker', '4 cups|10 cups|espresso', 12, 118),
    (24, 'kitchen', 'Roti Pan', '26 cm|30 cm|34 cm', 5, 19),
    (25, 'household', 'Washing Machine', '7 kg|9 kg|12 kg|twin tub 10 kg', 130, 480),
    (26, 'household', 'Inverter Air Conditioner', '9000 BTU|12000 BTU|18000 BTU|24000 BTU', 165, 590),
    (27, 'household', 'Standing Fan', '16"|18"|20" remote', 12, 44),
    (28, 'household', 'Ceiling Fan', '42"|52"|56" with light', 18, 74),
    (29, 'household', 'Steam Iron', '1200 W|2000 W|2400 W', 8, 37),
    (30, 'household', 'Vacuum Cleaner', '1400 W|1800 W|wet and dry', 34, 126),
    (31, 'household', 'Mosquito Net', 'single|double|king', 3, 14),
    (32, 'household', 'Water Tank', '400 L|1000 L|1700 L', 48, 210),
    (33, 'household', 'LED Bulb', '5 W|9 W|12 W|20 W|10-pack 9 W', 1, 9),
    (34, 'household', 'Bed Sheet Set', 'single|twin|queen|king', 7, 33),
    (35, 'household', 'Mattress', 'single 90 cm|twin 120 cm|queen 160 cm', 45, 240),
    (36, 'household', 'Storage Box', '10 L|30 L|60 L', 2, 11),
    (37, 'tools', 'Cordless Drill', '12 V|18 V|20 V with 2 batteries', 24, 112),
    (38, 'tools', 'Angle Grinder', '115 mm|125 mm|230 mm', 19, 84),
    (39, 'tools', 'Brush Cutter', '33 cc|43 cc|52 cc', 68, 230),
    (40, 'tools', 'Water Pump', '0.5 hp|1 hp|2 hp', 32, 165),
    (41, 'tools', 'Extension Lead', '3 m|5 m|10 m|25 m reel', 3, 29),
    (42, 'tools', 'Wall Screws', '4x40 box of 100|5x60 box of 100|6x80 box of 50', 1, 4),
    (43, 'tools', 'Generator', '1 kVA|3 kVA|6.5 kVA', 95, 720),
    (44, 'tools', 'Machete', '18"|22"|24"', 3, 9),
    (45, 'leisure', 'Bicycle', '16"|20"|26"|28"', 46, 185),
    (46, 'leisure', 'Football', 'size 3|size 4|size 5', 3, 16),
    (47, 'leisure', 'Hammock', 'single|double|with stand', 9, 72),
    (48, 'leisure', 'Cool Box', '12 L|25 L|50 L|80 L', 9, 68)
), catalogue AS MATERIALIZED (
    SELECT product_n, product, low, high, string_to_array(specs, '|') AS specs,
           string_to_array(brands, '|') AS brands, string_to_array(colours, '|') AS colours
    FROM product JOIN department USING (department)
), fixed (start, suppliers, prefixes, notes) AS (VALUES (
    TIMESTAMP '2021-01-04 11:30:00.417',
    ARRAY['Tai Fung Electronics (Guangzhou) Co., Ltd.', 'Colón Free Zone Imports S.A.', 'Miami Gateway Wholesale Inc.',
          'Van Dijk & Zn. Export B.V.', 'São Paulo Utilidades Ltda', 'Port of Spain Traders',
          '深圳市华强贸易有限公司', 'Georgetown Hardware Supplies', 'Curaçao Duty-Free Depot', 'Eigen import'],
    ARRAY['TFE', 'CFZ', 'MGW', 'VDE', 'SPU', 'POS', 'HQ', 'GHS', 'CDD', 'EI'],
    ARRAY['Fragile: stack no more than three high', 'Display model stays in the showroom',
          'Warranty 12 months, ask for the receipt', 'Price to be reviewed after next container',
          E'Checked 2x.\nTwo boxes were wet, contents fine.', 'Klant belt terug',
          E'Customs:\n- invoice with broker\n- declaration pending\n', 'Sold per set only', '110 V only!',
          E'Count:\t12 left\t3 right', 'Ask Siti before discount', 'Levering in delen afgesproken'])
), hashed AS (
    SELECT sha256(convert_to('item ' || n, 'UTF8')) AS hash FROM generate_series(1, $1::int) AS n OFFSET 0
), dice AS (
    SELECT 'c' || right(encode(hash, 'hex'), 24) AS id,
           CASE WHEN get_byte(hash, 0) < 205 THEN 1 WHEN get_byte(hash, 0) < 244 THEN 2 ELSE 3 END AS company,
           get_byte(hash, 1) AS place_die,
           CASE WHEN get_byte(hash, 2) < 178 THEN 'Arrived' WHEN get_byte(hash, 2) < 214 THEN 'Sold'
                WHEN get_byte(hash, 2) < 240 THEN 'Ordered' ELSE 'ToOrder' END AS status,
           1 + (get_byte(hash, 3) * 256 + get_byte(hash, 4)) % 48 AS product_die,
           get_byte(hash, 5) AS brand_die,
           get_byte(hash, 6) AS spec_die,
           get_byte(hash, 7) AS colour_die,
           get_byte(hash, 8) * 256 + get_byte(hash, 9) AS quantity_die,
           get_byte(hash, 10) * 256 + get_byte(hash, 11) AS cost_die,
           get_byte(hash, 12) * 16777216::bigint + get_byte(hash, 13) * 65536 + get_byte(hash, 14) * 256
               + get_byte(hash, 15) AS time_die,
           get_byte(hash, 16) * 256 + get_byte(hash, 17) AS order_die,
           get_byte(hash, 18) AS user_die,
           get_byte(hash, 19) AS note_die
    FROM hashed OFFSET 0
), chosen AS (
    SELECT *,
           brands[1 + brand_die % cardinality(brands)] AS brand,
           specs[1 + spec_die % cardinality(specs)] AS spec,
           colours[1 + colour_die % cardinality(colours)] AS colour,
           1 + (product_die + brand_die) % 11 AS supplier_n,
           -- A later spec of a product is the dearer one.
           low * 100 + (high - low) * 100 * ((spec_die % cardinality(specs)) * 65536::bigint + cost_die)
               / (cardinality(specs) * 65536) AS cost_cents,
           CASE WHEN status = 'Sold' THEN CASE WHEN quantity_die % 10 = 0 THEN 1 + quantity_die % 3 ELSE 0 END
                WHEN status = 'ToOrder' AND quantity_die % 2 = 0 THEN 0
                WHEN quantity_die < 400 AND low <= 3 THEN 100000 + quantity_die * 911
                WHEN quantity_die < 240 AND status = 'Arrived' THEN -1 - quantity_die % 9
                WHEN quantity_die < 3000 AND status = 'Arrived' THEN 0
                WHEN quantity_die < 45000 THEN 1 + quantity_die % 24
                ELSE 1 + quantity_die % 150 END AS quantity,
           -- What is still to come was entered in the last hundred days.
           CASE WHEN status IN ('Ordered', 'ToOrder') THEN 172800000000 + time_die * 2
                ELSE time_die * 42 END AS created_ms
    FROM dice CROSS JOIN LATERAL (SELECT * FROM catalogue WHERE product_n = product_die OFFSET 0) AS catalogued OFFSET 0
), reckoned AS (
    SELECT *,
           start + created_ms * INTERVAL '1 millisecond' AS created,
           -- One cost in sixteen is a twelfth of the price of eleven: digits enough to catch whoever rounds.
           CASE WHEN cost_die % 16 = 0 THEN cost_cents * 11 / 1200.0::float8 ELSE cost_cents / 100.0::float8 END AS cost,
           CASE WHEN order_die % 7 = 0 THEN 0
                ELSE cost_cents * (1 + abs(quantity)) * (4 + order_die % 9) / 100 END AS freight_cents,
           -- Whole fives of SRD at 36.5 to the dollar, a quarter of them five cents below.
           ((cost_cents * 365 * (118 + cost_die % 50) / 500000 + 1) * 500
               - CASE WHEN colour_die % 4 = 0 THEN 5 ELSE 0 END) / 100.0::float8 AS price
    FROM chosen CROSS JOIN fixed OFFSET 0
), dated AS (
    SELECT *,
           CASE WHEN status <> 'ToOrder' AND note_die % 16 <> 0
                THEN created + (order_die % 20 - 14) * INTERVAL '1 day'
                    + cost_die * INTERVAL '91 milliseconds' END AS ordered
    FROM reckoned OFFSET 0
)
SELECT
    id,
    brand || ' ' || product || ' ' || spec || CASE WHEN colour = '' THEN '' ELSE ', ' || colour END,
    status::public."Status",
    quantity,
    cost,
    freight_cents / 100.0::float8,
    price,
    CASE WHEN supplier_n <= 10 THEN suppliers[supplier_n] END,
    CASE WHEN supplier_n <= 10
         THEN prefixes[supplier_n] || '-' || lpad(product_n::text, 2, '0') || lpad(cost_die::text, 5, '0') END,
    ordered,
    CASE WHEN order_die % 23 <> 0
         THEN ordered + (14 + quantity_die % 60) * INTERVAL '1 day' + cost_die * INTERVAL '357 milliseconds' END,
    CASE WHEN ordered IS NOT NULL AND order_die % 11 <> 0
         THEN 'PO-' || extract(year FROM ordered)::int || '-' || lpad((order_die % 4000)::text, 4, '0') END,
    CASE WHEN quantity_die % 9 <> 0 THEN (price / 36.5 - cost) / cost * 100 END,
    CASE WHEN cost_die % 5 < 3 THEN 1 + cost_die % 20 END,
    CASE WHEN note_die < 80 THEN notes[1 + note_die % 12] END,
    created,
    start + (created_ms + (183168000000 - created_ms) * order_die / 65536) * INTERVAL '1 millisecond',
    'demo-company-' || company,
    'demo-user-' || CASE WHEN user_die >= 192 THEN NULL
                         WHEN company = 1 THEN 1 + user_die % 26
                         WHEN company = 2 THEN 27 + user_die % 8
                         ELSE 35 + user_die % 4 END,
    'demo-location-' || CASE WHEN place_die >= 240 THEN NULL
                             WHEN company = 1 AND place_die < 128 THEN 1
                             WHEN company = 1 THEN 2 + place_die % 6
                             WHEN company = 2 THEN 8 + place_die % 3
                             ELSE 11 + place_die % 2 END
FROM dated;

-- The famous items and the oddities: fixed rows, in which the named columns are replaced.
WITH oddity (n, columns) AS (VALUES
    (1, $${"id": "demo-item-1", "name": "Tropica Desk Fan 12\", White", "status": "Arrived", "quantityInStock": 10,
         "costPerUnitUSD": 4.25, "freightCostUSD": 12.5, "sellingPriceSRD": 250, "profitMarginPercent": 40,
         "minStockLevel": 3, "supplier": "Port of Spain Traders", "supplierSku": "POS-FAN12",
         "orderNumber": "PO-2026-0001", "orderDate": "2026-06-01T13:05:09.125",
         "expectedArrival": "2026-07-15T12:00:00.5", "notes": null, "createdAt": "2026-06-01T13:10:00.001",
         "updatedAt": "2026-07-20T15:45:30.25", "companyId": "demo-company-1", "locationId": "demo-location-1",
         "assignedUserId": "demo-user-6"}$$::jsonb),
    (2, $${"id": "demo-item-2", "name": "Nordhaus Rice Cooker 1.8 L, Stainless", "status": "Ordered",
         "quantityInStock": 6, "costPerUnitUSD": 18.9, "freightCostUSD": 20, "sellingPriceSRD": 1095,
         "profitMarginPercent": 58.7, "minStockLevel": 2, "supplier": "Miami Gateway Wholesale Inc.",
         "supplierSku": "MGW-RC18", "orderNumber": "PO-2026-0002", "orderDate": "2026-10-02T14:00:00.999",
         "expectedArrival": "2026-12-11T12:00:00.75", "notes": "Deposit paid",
         "createdAt": "2026-10-02T14:05:00.042", "updatedAt": "2026-10-02T14:05:00.042",
         "companyId": "demo-company-1", "locationId": "demo-location-5", "assignedUserId": "demo-user-7"}$$),
    (3, $${"id": "demo-item-3", "name": "Voltara LED TV 43\", Black", "status": "Sold", "quantityInStock": 0,
         "costPerUnitUSD": 219.99, "freightCostUSD": 75, "sellingPriceSRD": 11995, "profitMarginPercent": 49.4,
         "minStockLevel": 1, "supplier": "Colón Free Zone Imports S.A.", "supplierSku": "CFZ-TV43",
         "orderNumber": "PO-2025-0317", "orderDate": "2025-03-17T11:00:00.333",
         "expectedArrival": "2025-04-28T11:00:00.667", "notes": "Last one sold to a walk-in customer",
         "createdAt": "2025-03-17T11:02:03.004", "updatedAt": "2025-12-24T20:59:59.999",
         "companyId": "demo-company-1", "locationId": "demo-location-2", "assignedUserId": "demo-user-3"}$$),
    (4, $${"id": "demo-item-4", "name": "Ironhand Cordless Drill 18 V", "status": "ToOrder", "quantityInStock": 0,
         "costPerUnitUSD": 36.5, "freightCostUSD": 0, "sellingPriceSRD": 1995, "profitMarginPercent": null,
         "minStockLevel": 5, "supplier": null, "supplierSku": null, "orderNumber": null, "orderDate": null,
         "expectedArrival": null, "notes": "Three customers asked", "createdAt": "2026-10-20T17:30:00.5",
         "updatedAt": "2026-10-20T17:30:00.5", "companyId": "demo-company-1", "locationId": null,
         "assignedUserId": null}$$),
    (5, $${"id": "demo-item-5", "name": "Tropica Desk Fan 12\", White", "status": "Arrived", "quantityInStock": 3,
         "costPerUnitUSD": 4.6, "freightCostUSD": 5, "sellingPriceSRD": 265, "profitMarginPercent": 57.8,
         "minStockLevel": 1, "supplier": "Georgetown Hardware Supplies", "supplierSku": "GHS-FAN12",
         "orderNumber": "NT-88", "orderDate": "2026-05-11T12:00:00.125",
         "expectedArrival": "2026-05-29T12:00:00.125", "notes": null, "createdAt": "2026-05-11T12:30:00.75",
         "updatedAt": "2026-06-02T09:15:00.1", "companyId": "demo-company-2", "locationId": "demo-location-8",
         "assignedUserId": "demo-user-29"}$$),
    (6, $${"id": "demo-item-6", "name": "Voltara Wall Charger 20 W, White", "status": "Arrived",
         "quantityInStock": -2, "costPerUnitUSD": 3.1, "freightCostUSD": 10, "sellingPriceSRD": 195,
         "profitMarginPercent": 72.3, "minStockLevel": 10, "supplier": "Tai Fung Electronics (Guangzhou) Co., Ltd.",
         "supplierSku": "TFE-CH20", "orderNumber": "PO-2026-0440", "orderDate": "2026-04-04T10:00:00.044",
         "expectedArrival": "2026-05-05T10:00:00.055", "notes": "Sold two that were never counted in",
         "createdAt": "2026-04-04T10:10:10.101", "updatedAt": "2026-09-09T09:09:09.909",
         "companyId": "demo-company-1", "locationId": "demo-location-2", "assignedUserId": "demo-user-14"}$$),
    (7, '{"locationId": null, "status": "Arrived", "quantityInStock": 4}'),
    (8, '{"orderDate": null, "expectedArrival": null, "status": "Arrived", "quantityInStock": 9}'),
    (9, '{"assignedUserId": null, "status": "Ordered", "quantityInStock": 24}'),
    (10, '{"supplier": null, "supplierSku": null, "orderDate": null, "expectedArrival": null, "orderNumber": null,
         "profitMarginPercent": null, "minStockLevel": null, "notes": null, "assignedUserId": null,
         "locationId": null}'),
    (11, '{"status": "Arrived", "quantityInStock": 0}'),
    (12, '{"status": "Arrived", "quantityInStock": -7}'),
    (13, '{"status": "Sold", "quantityInStock": -1}'),
    (14, '{"status": "Sold", "quantityInStock": 2}'),
    (15, '{"name": "Bakru Wall Screws 4x40, loose", "status": "Arrived", "quantityInStock": 250000,
         "costPerUnitUSD": 0.0125, "freightCostUSD": 1000.01, "sellingPriceSRD": 1.25}'),
    (16, '{"name": "Delta Cable Tie 200 mm, Black", "status": "Ordered", "quantityInStock": 999999,
         "costPerUnitUSD": 0.0033333333333333335, "freightCostUSD": 0.01, "sellingPriceSRD": 0.5}'),
    (17, jsonb_build_object('name', 'Nordhaus Kitchen Set: ' || repeat('pan with lid, ladle, skimmer, ', 24) || 'spoon')),
    (18, jsonb_build_object('name', repeat('LangeNaamZonderSpatie', 30))),
    (19, jsonb_build_object('notes', repeat(
        E'Called the forwarder again.\nNo answer.\r\n\tTry tomorrow — vóór 12 uur.\n\n', 40))),
    (20, '{"name": "Crème-brûlée-brander «Éclair» für Küche, señor ñandú"}'),
    (21, '{"name": "电饭锅 1.8 升（白色）", "notes": "质量很好。\n下次订 20 个。"}'),
    (22, '{"name": "مروحة سقف ٥٢ بوصة", "notes": "للعرض فقط"}'),
    (23, '{"name": "🎁 Gift Set 👨‍👩‍👧‍👦 🇸🇷", "notes": "🔥🔥 promo 👍🏽"}'),
    (24, $${"name": "O'Brien's \"Quick\" C:\\temp\\new Cable, 1\t+\t1",
         "notes": "back\\slash, 'single', \"double\", `tick`, $dollar$, %s, {brace}, :colon\ttab"}$$),
    (25, '{"name": "Homely Storage Box 30 L, Blue", "companyId": "demo-company-1", "locationId": "demo-location-1",
         "assignedUserId": "demo-user-8", "status": "Arrived", "quantityInStock": 12, "costPerUnitUSD": 5.4,
         "freightCostUSD": 10, "sellingPriceSRD": 295}'),
    (26, '{"name": "Homely Storage Box 30 L, Blue", "companyId": "demo-company-1", "locationId": "demo-location-1",
         "assignedUserId": "demo-user-8", "status": "Arrived", "quantityInStock": 30, "costPerUnitUSD": 5.15,
         "freightCostUSD": 31.25, "sellingPriceSRD": 295}'),
    (27, '{"name": "Homely Storage Box 30 L, Blue", "companyId": "demo-company-1", "locationId": "demo-location-3",
         "assignedUserId": "demo-user-9", "status": "Ordered", "quantityInStock": 48, "costPerUnitUSD": 5.4,
         "freightCostUSD": 40, "sellingPriceSRD": 295}'),
    (28, '{"costPerUnitUSD": 0.30000000000000004, "freightCostUSD": 0.1}'),
    (29, '{"costPerUnitUSD": 3.3333333333333335, "freightCostUSD": 19.999999999999996, "quantityInStock": 17}'),
    (30, '{"status": "Arrived", "quantityInStock": 7, "freightCostUSD": 100}'),
    (31, '{"status": "Arrived", "quantityInStock": 3, "freightCostUSD": 0.01}'),
    (32, '{"name": "Free calendar 2026", "costPerUnitUSD": 0, "freightCostUSD": 0, "sellingPriceSRD": 0,
         "profitMarginPercent": null, "quantityInStock": 40}'),
    (33, '{"status": "Ordered", "quantityInStock": 1, "costPerUnitUSD": 98765.43210987654,
         "freightCostUSD": 12345.678901234567, "sellingPriceSRD": 4999999.95}'),
    (34, '{"costPerUnitUSD": 1e-7, "freightCostUSD": 1e-7}'),
    (35, '{"notes": "", "orderNumber": "", "supplier": "", "supplierSku": ""}'),
    (36, '{"name": "  Extension Lead 5 m  "}'),
    (37, '{"name": "=SUM(A1:A9)", "notes": "+31 6 0000 0000, call @ noon"}'),
    (38, '{"name": "<b>TV</b> & <script>alert(1)</script>"}'),
    (39, $${"name": "'); DROP TABLE \"items\"; --"}$$),
    (40, '{"name": "100% _wild_ card"}'),
    (41, '{"name": "Café Colón Coffee Maker 10 cups"}'),
    (42, '{"name": "Cafe\u0301 Colo\u0301n Coffee Maker 10 cups"}'),
    (43, '{"name": "Two\nlines, \u00a0no-break\u200b and \ufeffinvisible"}'),
    (44, '{"orderDate": "2025-05-05T05:05:05.555", "expectedArrival": "2024-05-05T05:05:05.555"}'),
    (45, '{"orderDate": "2023-12-31T23:59:59.999", "expectedArrival": "2024-02-29T00:00:00"}'),
    (46, '{"orderDate": "1970-01-01T00:00:00", "expectedArrival": "9999-12-31T23:59:59.999"}'),
    (47, '{"createdAt": "2026-10-01T00:00:00.001", "updatedAt": "2026-09-30T23:59:59.999"}')
), taken AS (
    DELETE FROM public."items" AS item USING oddity
    WHERE item."id" = 'c' || right(encode(sha256(convert_to('item ' || n, 'UTF8')), 'hex'), 24)
    RETURNING item, columns
)
INSERT INTO public."items" SELECT changed.* FROM taken CROSS JOIN LATERAL jsonb_populate_record(item, columns) AS changed;

INSERT INTO public."expenses" (
    "id", "description", "amount", "currency", "category", "date", "notes", "createdAt", "updatedAt", "companyId",
    "createdById")
WITH hashed AS (
    SELECT sha256(convert_to('expense ' || n, 'UTF8')) AS hash
    FROM generate_series(1, $1::int * 2::bigint / 5) AS n OFFSET 0
), dice AS (
    SELECT hash,
           get_byte(hash, 0) % 12 AS kind,
           CASE WHEN get_byte(hash, 1) < 190 THEN 1 WHEN get_byte(hash, 1) < 236 THEN 2 ELSE 3 END AS company,
           TIMESTAMP '2021-01-04 11:30:00' + (get_byte(hash, 9) * 65536 + get_byte(hash, 10) * 256 + get_byte(hash, 11))
               * INTERVAL '10921 milliseconds' AS spent
    FROM hashed OFFSET 0
), kinds (descriptions) AS (VALUES (ARRAY[
    'Printer paper', 'Toner', 'Receipt rolls', 'Price labels',
    'Diesel for the truck', 'Customs broker', 'Container to Kwatta', 'Bridge toll and parking',
    'Drinking water', 'Repair of the roll-up door', 'EBS electricity', 'Café: coffee & sugar']))
SELECT 'c' || right(encode(hash, 'hex'), 24),
       descriptions[1 + kind] || CASE WHEN get_byte(hash, 6) < 32 THEN ' — ' || get_byte(hash, 7) ELSE '' END,
       (500 + get_byte(hash, 2) * 256 + get_byte(hash, 3))
           / CASE WHEN get_byte(hash, 4) < 64 THEN 100.0::float8 ELSE 7.0::float8 END,
       (CASE WHEN get_byte(hash, 4) < 64 THEN 'USD' ELSE 'SRD' END)::public."Currency",
       (CASE kind / 4 WHEN 0 THEN 'OFFICE_SUPPLIES' WHEN 1 THEN 'TRANSPORTATION'
                  ELSE 'MISCELLANEOUS' END)::public."ExpenseCategory",
       spent,
       CASE WHEN get_byte(hash, 5) < 40 THEN E'Receipt in the blue folder\nsigned: R. d''Abreu' END,
       spent + get_byte(hash, 5) * INTERVAL '61007 milliseconds',
       spent + get_byte(hash, 5) * INTERVAL '1234567 milliseconds',
       'demo-company-' || company,
       'demo-user-' || CASE WHEN get_byte(hash, 8) >= 224 THEN NULL
                            WHEN company = 1 THEN 1 + get_byte(hash, 8) % 26
                            WHEN company = 2 THEN 27 + get_byte(hash, 8) % 8
                            ELSE 35 + get_byte(hash, 8) % 4 END
FROM dice CROSS JOIN kinds;

-- What each company believes its stock is worth. Summed as numeric: a sum of doubles depends on the order of the rows.
UPDATE public."companies" AS company
SET "stockValueUSD" = worth.usd, "stockValueSRD" = worth.srd
FROM (
    SELECT "companyId",
           round(sum("quantityInStock" * "costPerUnitUSD"::numeric), 2)::float8 AS usd,
           round(sum("quantityInStock" * "sellingPriceSRD"::numeric), 2)::float8 AS srd
    FROM public."items" WHERE "quantityInStock" > 0 GROUP BY "companyId"
) AS worth
WHERE worth."companyId" = company."id";

-- A shop that has just been made has no statistics yet, and the first queries would be planned blind.
ANALYZE public."companies", public."users", public."locations", public."items", public."expenses";
