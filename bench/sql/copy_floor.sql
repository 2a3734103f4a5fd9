-- the table
CREATE TABLE public.stock_batches (
    id text NOT NULL,
    quantity integer NOT NULL DEFAULT 0,
    status public."Status" NOT NULL DEFAULT 'ToOrder',
    "costPerUnitUSD" double precision NOT NULL,
    "freightCostUSD" double precision NOT NULL DEFAULT 0,
    "orderDate" timestamp(3),
    "expectedArrival" timestamp(3),
    "arrivedDate" timestamp(3),
    "orderNumber" text,
    notes text,
    "createdAt" timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "updatedAt" timestamp(3) NOT NULL,
    "itemId" text NOT NULL,
    "locationId" text,
    "assignedUserId" text
);

-- the rows
INSERT INTO public.stock_batches (
    id, quantity, status, "costPerUnitUSD", "freightCostUSD", "orderDate", "expectedArrival", "orderNumber", notes,
    "createdAt", "updatedAt", "itemId", "locationId", "assignedUserId"
)
SELECT gen_random_uuid()::text, coalesce("quantityInStock", 0), status, "costPerUnitUSD", coalesce("freightCostUSD", 0),
       "orderDate", "expectedArrival", "orderNumber", notes, "createdAt", "updatedAt", id, "locationId",
       "assignedUserId"
FROM public.items
WHERE "quantityInStock" > 0 OR status IS NOT NULL;

-- the primary key
ALTER TABLE public.stock_batches ADD CONSTRAINT stock_batches_pkey PRIMARY KEY (id);

-- the foreign keys
ALTER TABLE public.stock_batches
    ADD CONSTRAINT "stock_batches_itemId_fkey" FOREIGN KEY ("itemId")
        REFERENCES public.items (id) ON DELETE CASCADE ON UPDATE CASCADE,
    ADD CONSTRAINT "stock_batches_locationId_fkey" FOREIGN KEY ("locationId")
        REFERENCES public.locations (id) ON DELETE SET NULL ON UPDATE CASCADE,
    ADD CONSTRAINT "stock_batches_assignedUserId_fkey" FOREIGN KEY ("assignedUserId")
        REFERENCES public.users (id) ON DELETE SET NULL ON UPDATE CASCADE;

-- the index on itemId
CREATE INDEX "stock_batches_itemId_idx" ON public.stock_batches ("itemId");
